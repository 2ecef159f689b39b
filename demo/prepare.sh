#!/bin/sh
# Makes sure that a window can be opened: system libraries for Qt and OpenGL, and Xvfb where
# there is no display. Installs them as root on a Debian-like system; otherwise says what to do.
set -eu

wanted="libGL.so.1:libgl1 libEGL.so.1:libegl1 libxkbcommon-x11.so.0:libxkbcommon-x11-0
libxcb-icccm.so.4:libxcb-icccm4 libxcb-image.so.0:libxcb-image0 libxcb-keysyms.so.1:libxcb-keysyms1
libxcb-randr.so.0:libxcb-randr0 libxcb-render-util.so.0:libxcb-render-util0
libxcb-xinerama.so.0:libxcb-xinerama0 libxcb-shape.so.0:libxcb-shape0 libxcb-cursor.so.0:libxcb-cursor0
libdbus-1.so.3:libdbus-1-3 libglib-2.0.so.0:libglib2.0-0 libfontconfig.so.1:libfontconfig1"

python="${PYTHON:-python3}"
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then :; else
    echo "Python 3.11 or later is needed as $python; name another:  make PYTHON=python3.11 ..." >&2
    exit 1
fi
[ "$(uname -s)" = Linux ] || exit 0
there=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
missing=""
for pair in $wanted; do
    case "$there" in *"${pair%%:*}"*) ;; *) missing="$missing ${pair##*:}" ;; esac
done
if [ -z "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]; then
    command -v xvfb-run >/dev/null 2>&1 || missing="$missing xvfb xauth"
    # llvmpipe: OpenGL without a graphics card
    find /usr/lib* -name 'swrast_dri.so' 2>/dev/null | grep -q . || missing="$missing libgl1-mesa-dri"
fi
if "$python" -c 'import ensurepip' 2>/dev/null; then :; else
    missing="$missing $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing system packages:$missing"
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >/dev/null
else
    echo "A window needs system packages; install them first:  sudo apt-get install$missing" >&2
    exit 1
fi

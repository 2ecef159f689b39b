"""A simulated annotator paints in a real window; tools are compared on the very same strokes.

`python -m benchmarks.annotation` is the command (`__main__`). A *task* (`tasks`) says what is to be
found, where it is painted and where it is scored. The *annotator* looks at the places that a
strategy offers (`places`) and paints the largest mistake (`annotator`) as quickly as a hand can
(`hand`). A *tool* is painted on and answers: the plugin (`window`), a random forest (`forest`) or
another program (`rootpainter`). A *run* (`run`) is one tool at one task, in a process of its own;
what it found is kept (`records`) and told in tables and plots (`telling`, `plots`).
"""

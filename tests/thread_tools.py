"""Functions in threads at once, and what a fitted pipeline can be asked."""

import threading

from skaudio import predict_windows


def at_once(*functions):
    """What functions give that start together, each in a thread of its own."""
    found, errors = [None] * len(functions), []
    barrier = threading.Barrier(len(functions))

    def work(place, function):
        try:
            barrier.wait(60)
            found[place] = function()
        except Exception as err:
            errors.append(err)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return found


def answers(pipe, paths):
    """All that a pipeline says of clips, as functions."""
    clf, steps = pipe[-1], pipe[:-1]
    return [
        lambda: pipe.predict_proba(paths),
        lambda: pipe.predict(paths),
        lambda: clf.transform(steps.transform(paths)),
        lambda: predict_windows(pipe, paths[0], hop=0.1)["probability"].to_numpy(),
    ]

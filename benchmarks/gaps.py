"""What stands between floor and measured time, in a sentence for each headline case."""

_LAUNCHES = (
    "Launches: every small operator costs 2 to 4 µs with the Python around it, and the checks, the "
    "layout by class, the choice of rows and the queue take more of them than the mathematics."
)
_SORTED_ORDER = (
    "Beside the sort, the block of every row that is seen is looked up by bisection and gathered, "
    "and every operator writes its temporaries to the cache and reads them again, where one fused "
    "loop would keep them in registers."
)
_PAIRS = (
    "All pairs are passed over several times (difference, sigmoid, two sums, two products of the "
    "gradient), where the floor counts the sigmoid alone."
)
_LAYOUT = (
    "Scores and labels of batch and queue are laid out by class and the positives of every class "
    "gathered (copies, `nonzero`), which moves more bytes than the selection reads."
)
_SHORT_ROWS = (
    "Rows of ten are shorter than a vector register: the logits are transposed and the gradient "
    "transposed back, two copies that the floor does not count."
)
_NEW_PAGES = (
    "One array as large as the logits is new at every step, and most of the time goes into mapping "
    "and clearing its pages. Cross-entropy takes three: 24 ms in a process that still holds pages "
    "of that size, ten times as much in one that does not, as here."
)
_STRIDED = (
    "The softmax runs over a strided dimension, in separate passes for maximum, sum and result, "
    "and its log-probabilities are kept for the backward pass."
)
_PASSES = (
    "Probability, loss, modulator and slope are some ten passes over blocks in cache, where one "
    "fused loop would do; compiled, it is one."
)

_CASES = {
    _SORTED_ORDER: (
        "SmoothAP 15360x10 queue 0",
        "SmoothAP 1024x10 queue 8192",
        "SmoothAP 1048576x1 queue 0",
    ),
    _PAIRS: ("SmoothAP 256x1 queue 8192", "SmoothAP 4096x1000 queue 0"),
    _LAYOUT: tuple(
        f"{loss} {size}"
        for loss in ("RecallAtQuantile", "PAUCAtBudget (trapezoid)", "PAUCAtBudget (pairwise)")
        for size in ("15360x10 queue 0", "1024x10 queue 8192", "1024x100 queue 8192")
    ),
    _SHORT_ROWS: ("SoftmaxFocal 65536x10",),
    _NEW_PAGES: ("SoftmaxFocal 8192x1000",),
    _STRIDED: ("SoftmaxFocal 8x21x128x128",),
    _PASSES: ("SigmoidFocal 65536x10",),
    _LAUNCHES: (
        "SoftmaxFocal 256x5",
        "SigmoidFocal 256x5",
        *(
            f"{loss} 256x5 queue {queue}"
            for loss in (
                "SmoothAP",
                "RecallAtQuantile",
                "PAUCAtBudget (trapezoid)",
                "PAUCAtBudget (pairwise)",
            )
            for queue in (0, 1024)
        ),
    ),
}

GAPS = {key: sentence for sentence, keys in _CASES.items() for key in keys}

"""The sentences of the page that do not depend on its figures."""

from benchmarks.evidence.choice import LEVEL
from benchmarks.evidence.statistics import REFERENCE

OPENING = f"""\
The gain over cross-entropy that starts at the class frequencies (`{REFERENCE}`), on sets that
played no part in choosing the recipe. In brackets the 95 % interval over families of sets, then
sets won and lost. Where no recipe cleared the bar, keep `{REFERENCE}`."""

BAR = f"""\
The recipe was chosen on one half of the families and judged on the other. It clears the bar where
it gains in the mean, Wilcoxon's test over sets has p < {LEVEL:g} after Holm's adjustment for all
recipes in this table, and no set is worse by its own corrected interval. *Worse* counts such sets,
and in brackets those left after Holm's adjustment over sets. `{REFERENCE}` in the place of a
recipe: no arm qualified on the first half."""

EVERY_ARM = f"""\
Gains over `{REFERENCE}` on all sets that count, which includes those that recipes were chosen on;
then in each half. A picture's bar is the 95 % interval over families, or of one set where it shows
sets: blue gains, red loses, grey could be either. *Better* and *worse* are sets by their own
interval. Ranks: 1 is best, and a line joins arms that Nemenyi's test does not tell apart.
`figures.csv` has every figure for every model and both halves."""

DECISION = f"""\
Balanced accuracy can be had from the loss (`class_weights`) or from the decision of `{REFERENCE}`
alone, argmax(z - tau log prior) with tau by validation rows. Gains over the plain decision of
`{REFERENCE}`; the difference is that of the adjusted decision minus class weights, on the same
folds. Adjusting costs nothing in average precision and log-loss; class weights cost what the last
columns say."""

NO_HELP = """\
Arms whose gain over families is not above zero with all of its interval, in either ranking goal,
worst first, with what they cost in log-loss. An interval wholly below zero is in bold."""

PEERS = """\
Each as its own documents advise, on the same folds, with three learning rates around theirs; on the
counted set with the most positives of each family, up to 6,000 rows. Torchvision's
`sigmoid_focal_loss` and kornia's `binary_focal_loss_with_logits` (alpha .25, gamma 2, mean) were
not trained: on 4,096 logits their values and gradients equal those of `SigmoidFocalLoss()` to
rounding. The arm `focal` is that loss without alpha."""

NO_PEERS = """\
LibAUC's losses are not among these results: `python -m benchmarks.evidence peers` trains them."""

BOOSTING = """\
Scikit-learn's histogram gradient boosting on the same folds, tuned on the same validation rows. The
gain is that of the network over boosting: below zero boosting is better. Where the model matters
more than its loss, this table shows it."""

MULTICLASS = """\
The mean over the classes. So few sets carry no test: the gain, and how many sets were won, lost and
tied."""

UNCOUNTED = """\
Fewer than 25 positives, or 10 % of them and more. They took no part in any choice."""

COMMANDS = """\
`python -m benchmarks.evidence fit` trains, `boosting` and `peers` add the others, and `report`
writes this page from the rows that they leave."""

THINNED = "`NAME@.01` is a set whose positives were thinned to 1 % of the rows."

FOLDS = """\
Equal rows, and words of one sentence, stay in one fold. A quarter of a fold's training rows
validates; test rows are looked at once."""

TUNED = "for every arm and fold the validation rows choose rate and checkpoint, anew for each goal."

METHOD = (
    "**Training.** AdamW with a cosine; all arms of a fold have the same steps, and the same "
    "batches and initial weights where they do not differ in just that. The settings of the "
    "losses were fixed before.",
    "**Differences** are paired by fold. A set's own interval is the corrected resampled t-test of "
    "Nadeau and Bengio (Machine Learning 52, 2003), since folds share rows. The interval over sets "
    "resamples whole families: `yeast-1_vs_7` and `yeast4` are one data set asked two questions.",
)

LIMITS = (
    "Tables of up to 20,000 rows, and small networks. Nothing here was measured on pictures, on "
    "text that a network reads, or where an encoder is trained too.",
    "Wilcoxon's test takes sets for independent, and sets of one family are not: its p-values are "
    "too small. Read them beside *p over families*, which has few families to work with and can "
    "hardly fall below .01, and beside the interval over families, which is itself too narrow "
    "where fewer than ten are drawn from.",
    "The half that judges was looked at while the study grew: the second repeat of the folds and "
    "the mixed ensembles of the largest network came after a first look. The rule that chooses and "
    "the bar did not change.",
    "A rare class of 25 rows leaves five in a fold: one set says little, and recall moves there in "
    "steps of .2.",
    "An arm that changes nothing is worse by its own 95 % interval on about one set in forty. The "
    "bar counts such a set all the same.",
    "A recipe that was not chosen, or did not clear the bar, may still help on your data: half of "
    "the families need not stand for the other half.",
    "Tail accuracy of two classes is the recall of the rare one, which a model that always says "
    "*rare* makes perfect: no recipe is chosen for it. Read it beside balanced accuracy.",
)

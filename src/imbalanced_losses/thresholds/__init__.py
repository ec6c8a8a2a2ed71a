"""The threshold for an alert budget, a precision, a recall, a rate of false alarms or a cost.

With it comes what to expect of it on new rows, each figure with an interval that holds for a finite
number of rows although the threshold was chosen on the same rows. Why it does:

- A threshold at a fixed rank (budget: of all rows; recall: of the positives; false-positive rate:
  of the negatives) is an order statistic. The share of new rows beyond the m-th highest of n has
  the distribution Beta(m, n - m + 1), whatever the scores are (David and Nagaraja, "Order
  Statistics", 2003, https://doi.org/10.1002/0471722162, section 2.2): its mean m / (n + 1) is the
  rule by which m is chosen, and the interval of Clopper and Pearson contains its quantiles.
- Given such a threshold, the rows of the other kind beyond it are a plain binomial count, and so
  are the positives among the alerts of a budget; what stands at the threshold itself is left out,
  for it is there because the threshold was put there. (For the positives beyond the threshold of a
  budget: it stops where positives and negatives add up to m. The negatives let it stop at fewer
  positives the lower it goes, so its interval misses only if that at one fixed score does; and the
  other way round.)
- The precision for a recall or a rate of false alarms, and its alerts, depend on two counts: of the
  positives and of the negatives beyond the threshold, as shares of all rows. Both have an interval
  at half the error (Bonferroni), and the worst corners are taken.
- A precision or a cost is sought: the best of J candidate thresholds, which flatters it. All J have
  an interval at 1 / J of the error, so that the one of the chosen threshold holds too.

New rows are taken to be drawn as these are, each on its own. Rows that the model was trained on, or
that come in groups, are not: choose on held-out rows, one per group.
"""

from imbalanced_losses.thresholds._choose import Expected, OperatingPoint, choose

__all__ = ["Expected", "OperatingPoint", "choose"]

"""The label cascade: classifiers label what they are sure of, people the rest, with a promise of precision and recall.

After LSUN (Yu et al. 2015, arXiv:1506.03365), with three changes that make the promise hold:

- The hidden images pass through the cascade like all others, and what is judged is the running total of all rounds.
  After a round the images that are left are harder than the hidden set was; judging each round with the whole hidden
  set promises too much.
- The hidden images judge and do nothing else. What is proposed to them comes from the answers that the classifiers
  learn from, by cross-validation: no threshold is judged on images that it was chosen with.
- All that the cascade learns from the hidden images is whether each proposal passed. As long as all pass, the proposals
  are a sequence that was fixed without the hidden images, each contains those before, and each may be tested at the
  full level (fixed sequence testing: Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al. 2021, "Learn then Test",
  arXiv:2110.01052). A proposal that fails begins another such sequence. How many there can be is known, and each gets
  its part of the risk (Bonferroni), see :func:`~.thresholds.level`: what follows a failure is judged more strictly.

Pure functions and classes without a database; see :mod:`~fiftyone_idsynth.learning.cascade` for the stage.
"""

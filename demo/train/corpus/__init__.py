"""The text the demo model learns from, made by program from word lists.

Every kind of question lives in a module of its own with a `sample(rng)`
function that returns an `Item`. `dialogues` strings items into conversations,
`documents` makes the plain text without chat markers, and `split` says which
questions are kept out of training.
"""

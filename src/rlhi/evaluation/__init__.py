"""UserEval: do the arms of a run serve real users better, and is it personal?

`turns.select` draws the turns to evaluate, `replies.ReplyStage` lets an arm answer them, `comparison.compare` puts two
arms' answers side by side, `judges.JudgeStage` judges them, `scores.scores` counts the wins with intervals clustered by
user, `control.differences` holds each arm against its control, `finding.verdict` says in one sentence what they show,
and `figures.arm_figures` adds what the world's truth says of each arm on its own.
"""

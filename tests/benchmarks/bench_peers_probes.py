"""Probes, beside scikit-learn by hand.

64 probes of four classes, one for each iteration, on 2,000 states of width 128, in five folds. By
hand they are scikit-learn's logistic regressions, or its ridge classifiers, which solve the same
equations as loopscope's closed forms.
"""

import torch

import loopscope as ls

ROWS, WIDTH, ITERATIONS = 2000, 128, 63


def test_64_probes_in_five_folds(compare):
    from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(4, WIDTH, generator=generator)
    labels = torch.randint(0, 4, (ROWS,), generator=generator)
    start = 0.1 * centres[labels] + torch.randn(ROWS, WIDTH, generator=generator)
    run = ls.iterate(torch.tanh, start, ITERATIONS)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)

    def by_hand(estimator):
        return [
            cross_val_score(
                make_pipeline(StandardScaler(), estimator), run.states[k].numpy(), labels.numpy(), cv=folds
            ).mean()
            for k in range(ITERATIONS + 1)
        ]

    compare(
        f"{ITERATIONS + 1} probes on {ROWS} states of width {WIDTH}",
        {
            "loopscope": lambda: ls.Probes.fit(run, labels, random=False, controls=0),
            "loopscope, with controls and random features": lambda: ls.Probes.fit(run, labels),
            "scikit-learn, RidgeClassifierCV": lambda: by_hand(
                RidgeClassifierCV(alphas=(0.1, 1.0, 10.0, 100.0))
            ),
            "scikit-learn, LogisticRegression": lambda: by_hand(LogisticRegression(max_iter=1000)),
        },
        "no goal",
        rounds=7,
    )

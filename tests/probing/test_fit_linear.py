"""The numbers of probes: closed forms held to scikit-learn's, intervals held to what they say."""

import numpy as np
import pytest
import torch

import loopscope as ls
from loopscope.common.errors import LoopscopeError
from loopscope.probing import intervals
from loopscope.probing.fit_linear import discriminant, fit_linear, ridge
from loopscope.probing.moments import Moments

from .test_probes import BATCH, WIDTH, drawn, noise, states_of

# The closed forms are those of scikit-learn


def moments_of(x, y, folds=1, fold=None):
    moments = Moments.empty(x, folds, y.shape[1])
    moments.add(x, y, np.zeros(len(x), int) if fold is None else fold)
    return moments


def test_the_discriminant_is_scikit_learns_with_the_same_shrinkage():
    from sklearn.covariance import oas
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    y = generator.integers(0, 4, 150)
    x = (
        generator.normal(size=(150, 30)) @ generator.normal(size=(30, 30))
        + y[:, None] * generator.normal(size=30)
        + 5
    )
    scaled = StandardScaler().fit_transform(x)
    within = np.concatenate([scaled[y == c] - scaled[y == c].mean(0) for c in range(4)])
    shrinkage = oas(within, assume_centered=True)[1]

    class Shrunk:
        def fit(self, rows):
            # scikit-learn standardises nothing here and asks once per class: the pooled covariance
            # each time
            covariance = within.T @ within / len(within)
            mean = np.trace(covariance) / 30
            self.covariance_ = (1 - shrinkage) * covariance + shrinkage * mean * np.eye(30)
            return self

    oracle = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=Shrunk()).fit(scaled, y)
    mine = discriminant(moments_of(x, np.eye(4)[y]).of(np.array([True])))
    scores = mine(x)
    wanted = oracle.decision_function(scaled)
    assert np.allclose(scores - scores[:, :1], wanted - wanted[:, :1], atol=1e-3)


@pytest.mark.parametrize("alpha", [1e-3, 1.0])
def test_ridge_is_scikit_learns(alpha):
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(1)
    x, y = generator.normal(3, 2, size=(80, 12)), generator.normal(4, 1, size=80)
    scaled = StandardScaler().fit_transform(x)
    oracle = Ridge(alpha=alpha * 80).fit(scaled, y)
    assert np.allclose(
        ridge(moments_of(x, y[:, None]).of(np.array([True])), alpha)(x)[:, 0], oracle.predict(scaled)
    )


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_a_probe_depends_in_nothing_on_the_fold_that_it_is_tested_on(kind):
    """Neither on its rows nor, in the choice of the penalty, on its labels."""
    generator = np.random.default_rng(2)
    x, fold, label = generator.normal(size=(90, 20)), np.arange(90) % 3, generator.normal(size=90)
    x[:, 0] += 0.2 * label
    y = np.stack([label], 1) if kind == "numbers" else np.eye(2)[(label > 0).astype(int)]
    whole, other = moments_of(x, y, 3, fold), moments_of(x, y, 3, fold)
    harmed = moments_of(40 * x[fold == 0, ::-1], y[fold == 0][::-1], 3, np.zeros(30, int))
    for name in ("x", "xx", "xy", "y", "yy"):
        getattr(other, name)[0] = getattr(harmed, name)[0]
    before, after = (fit_linear(one, kind, 1)[0] for one in (whole, other))
    assert np.array_equal(before[0].weight, after[0].weight)
    assert not np.allclose(before[1].weight, after[1].weight)


def test_a_scikit_learn_estimator_can_take_their_place():
    from sklearn.linear_model import LogisticRegression

    labels = drawn(2, BATCH)
    table = noise(1, BATCH, 1, WIDTH)
    table[0, :, 0, 0] += 3 * labels
    run = states_of(table)
    own = ls.Probes.fit(run, labels, random=False)
    other = ls.Probes.fit(run, labels, random=False, estimator=LogisticRegression())
    assert abs(float(own.score - other.score)) < 0.03 and float(other.control) < 0.65
    with pytest.raises(LoopscopeError, match="was not kept"):
        other.at(0)


def test_a_class_between_two_others_is_not_lost():
    """Least squares on one-hot labels would never say it."""
    labels = drawn(3, BATCH)
    table = 0.1 * noise(1, BATCH, 1, 4)
    table[0, :, 0, 0] += labels
    probes = ls.Probes.fit(states_of(table), labels, random=False)
    assert float(probes.score) > 0.98


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_and_shift_of_features_change_nothing(scale):
    labels, table = drawn(2, BATCH), noise(1, BATCH, 1, WIDTH).double()
    table[0, :, 0, 0] += labels
    plain = ls.Probes.fit(states_of(table), labels, random=False)
    moved = ls.Probes.fit(states_of(table * scale + 1e6 * scale), labels, random=False)
    assert float(plain.score) == float(moved.score)
    assert torch.allclose(moved.at(0).weight * scale, plain.at(0).weight, rtol=1e-6, atol=1e-7)


def test_features_that_are_constant_or_repeated_do_no_harm():
    labels, table = drawn(2, BATCH), noise(1, BATCH, 1, 6)
    table[0, :, 0, 0] += 3 * labels
    table[..., 1], table[..., 2], table[..., 3] = 1e6, table[..., 0], 0
    assert float(ls.Probes.fit(states_of(table), labels, random=False).score) > 0.9
    nothing = ls.Probes.fit(states_of(torch.ones(1, BATCH, 1, 4)), labels, random=False)
    assert abs(float(nothing.score) - float(nothing.majority)) < 0.05, (
        "the most frequent class of the training folds"
    )


@pytest.mark.parametrize("estimator", [None, "logistic"])
def test_states_that_are_equal_but_for_rounding_hold_no_label(estimator):
    """The dust that is left of a forgotten state would be a feature like any other once scaled."""
    from sklearn.linear_model import LogisticRegression

    labels, size = drawn(2, BATCH), torch.finfo(torch.float32).eps
    chosen = None if estimator is None else LogisticRegression()
    for ulps, decoded in ((2, False), (100, True)):
        table = torch.ones(1, BATCH, 1, WIDTH) + ulps * size * labels[None, :, None, None]
        probes = ls.Probes.fit(states_of(table.float()), labels, random=False, controls=1, estimator=chosen)
        assert (float(probes.score) > 0.9) == decoded
        assert decoded or abs(float(probes.score) - float(probes.majority)) < 0.05


def test_more_features_than_examples_are_no_obstacle():
    labels, table = drawn(2, 60), noise(1, 60, 1, 300)
    table[0, :, 0, :40] += 2 * labels[:, None]
    probes = ls.Probes.fit(states_of(table), labels, random=False)
    assert float(probes.score) > 0.9 and float(probes.control) < 0.7


# Intervals


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize(("groups", "rows", "spread"), [(60, 1, 0.0), (40, 16, 0.0), (40, 16, 0.3)])
def test_intervals_hold_the_truth_as_often_as_they_say(share, groups, rows, spread):
    """Rows of one group share its luck where there is a spread; an interval over rows would miss
    far oftener."""
    generator, inside = np.random.default_rng(0), 0
    for _ in range(400):
        chance = np.clip(share + spread * (generator.integers(0, 2, groups) - 0.5) * (1 - share) * 2, 0, 1)
        hits = generator.binomial(rows, chance)
        low, high = intervals.share_interval(hits, np.full(groups, rows))
        inside += low <= share <= high
    assert 0.92 <= inside / 400 <= 0.99


@pytest.mark.parametrize(
    ("count", "features", "signal"), [(200, 64, 0.0), (200, 8, 0.5), (120, 16, 1.2), (120, 8, 3.0)]
)
def test_intervals_hold_what_probes_score_in_the_mean(count, features, signal):
    """Cross-validated scores vary more than their rows tell, most where there is little to read."""
    scores, ends = [], []
    for seed in range(80):
        labels, table = drawn(2, count, seed=1000 + seed), noise(1, count, 1, features, seed=seed)
        table[0, :, 0, 0] += signal * labels
        probes = ls.Probes.fit(states_of(table), labels, random=False, controls=0)
        scores.append(float(probes.score))
        ends.append((float(probes.low), float(probes.high)))
    mean = np.mean(scores)
    assert np.mean([low <= mean <= high for low, high in ends]) >= 0.91


@pytest.mark.parametrize("signal", [0.6, 2.0])
def test_intervals_hold_the_r2_of_probes_in_the_mean(signal):
    scores, ends = [], []
    for seed in range(60):
        labels, table = noise(150, seed=1000 + seed), noise(1, 150, 1, 8, seed=seed)
        table[0, :, 0, 0] += signal * labels
        probes = ls.Probes.fit(states_of(table), labels, random=False, controls=0)
        scores.append(float(probes.score))
        ends.append((float(probes.low), float(probes.high)))
    mean = np.mean(scores)
    assert np.mean([low <= mean <= high for low, high in ends]) >= 0.88


def test_an_interval_over_groups_is_wider_where_rows_of_a_group_agree():
    agree = intervals.share_interval(np.repeat([0, 10], 20), np.full(40, 10))
    mixed = intervals.share_interval(np.full(40, 5), np.full(40, 10))
    alone = intervals.share_interval(np.repeat([0, 1], 20), np.full(40, 1))
    assert agree == pytest.approx(alone, abs=1e-9), "ten rows that agree are one witness"
    assert mixed[1] - mixed[0] < agree[1] - agree[0]


def test_the_interval_of_r2_holds_the_truth():
    generator, inside = np.random.default_rng(0), 0
    for seed in range(200):
        y, error = generator.normal(size=300), 0.5 * generator.normal(size=300)
        low, high = intervals.r2_interval(error**2, y, y**2, np.ones(300, int), seed=seed)
        inside += low <= 0.75 <= high
    assert 0.88 <= inside / 200 <= 0.99


@pytest.mark.parametrize("features", [0.0, 1e4, 1e6])
@pytest.mark.parametrize("labels", [0.0, 1e7, 1.7e12])
def test_constants_added_to_features_and_labels_change_no_score(features: float, labels: float):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(120, 1, 6, generator=generator, dtype=torch.float64)
    y = x[:, 0, 0] + 0.3 * torch.randn(120, generator=generator, dtype=torch.float64)
    plain, moved = (
        ls.Probes.fit(
            ls.iterate(lambda s: s, x + of_x, 1), y + of_y, positions=0, iterations=[0], random=False
        )
        for of_x, of_y in ((0.0, 0.0), (features, labels))
    )
    for name in ("score", "low", "high", "control"):
        assert float(getattr(moved, name)) == pytest.approx(float(getattr(plain, name)), abs=1e-3)
    assert float(moved.low) <= float(moved.score) <= float(moved.high)
    shown = moved.at(0).predict(x[:, 0] + features) - labels
    assert torch.allclose(shown, plain.at(0).predict(x[:, 0]), atol=1e-2)

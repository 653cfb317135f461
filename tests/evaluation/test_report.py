"""The report: its numbers are those of the single evaluations, and its page stands alone."""

import functools
import html.parser
import json
import re
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.evaluation.reporting import costs, plan, sections, works
from keras_vae.evaluation.reporting.budget import Work, counts_within
from keras_vae.evaluation.reporting.costs import Costs
from keras_vae.evaluation.reporting.examples import Examples, read
from keras_vae.evaluation.reporting.parts import PARTS, left_out
from keras_vae.evaluation.reporting.row import Row
from keras_vae.evaluation.reporting.sections import Sections

tfd = tfp.distributions

IMAGE = (12, 12, 1)
EXAMPLES = 60
HISTORY = {"elbo": [-9.0, -5.0], "kl": [0.1, 1.0], "reconstruction": [8.9, 4.0]}


def vae(model=kv.VAE, image=IMAGE, **changes):
    parts = {
        "encoder": kv.networks.MLPEncoder((8,)),
        "decoder": kv.networks.MLPDecoder(image, (8,)),
        "posterior": kv.posteriors.DiagonalNormal(2),
        "likelihood": kv.likelihoods.Bernoulli(image),
    }
    return model(**{**parts, **changes})


def images(count=EXAMPLES, image=IMAGE):
    return np.random.default_rng(0).integers(0, 2, (count, *image)).astype("float32")


class Counted:
    """Batches that count how often they are read."""

    def __init__(self, *batches):
        self.batches, self.passes = batches, 0

    def __iter__(self):
        self.passes += 1
        return iter(self.batches)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a report with all that there is, its model, data, factors and folder."""
    keras.utils.set_random_seed(0)
    model = vae(name="a<b>c")
    x, y = images(), np.arange(EXAMPLES) % 3
    data = Counted((x[:40], y[:40]), (x[40:], y[40:]))
    grid = np.array([(a, b) for a in range(6) for b in range(5)])
    factors = kv.data.FactorData(images(30), grid, names=("a", "b"))
    folder = tmp_path_factory.mktemp("report") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(works, "ANNEALED_EXAMPLES", 4)
        patch.setattr(works, "GAP_EXAMPLES", 4)
        patch.setattr(works, "TRAINING_OBSERVATIONS", 100)
        patch.setattr(sections, "NUM_DISTRIBUTIONS", 5)
        scores = functools.partial(kv.evaluation.disentanglement_scores, num_bins=5)
        patch.setattr(sections, "disentanglement_scores", scores)
        report = kv.evaluation.report(
            model,
            data,
            folder,
            num_samples=7,
            factors=factors,
            history=HISTORY,
            seed=3,
            budget=None,
            verbose=False,
        )
    return report, model, (x, y), data, folder


def value(report, section, name):
    (row,) = (row for row in report.sections[section] if row.name == name)
    return row


@pytest.mark.full
def test_every_section_is_there_and_nothing_is_omitted(whole):
    report = whole[0]
    assert list(report.sections) == [
        "Likelihood",
        "Latent code",
        "Reconstruction",
        "Samples",
        "Disentanglement",
    ]
    assert not report.omitted and not report.reduced and not report.unfinished
    assert list(report.figures) == [
        "The parts of the ELBO",
        "KL of each latent dimension",
        "Learning curves",
        "Posterior means",
        "Reconstructions",
        "Samples",
        "Traversals",
    ]


@pytest.mark.full
def test_numbers_are_those_of_the_single_evaluations(whole):
    report, model, (x, _), _, _ = whole
    options = {"seed": 3, "verbose": False}
    found = kv.evaluation.log_likelihood(model, x, 7, **options)
    row = value(report, "Likelihood", "log p(x)")
    np.testing.assert_allclose([row.value, row.standard_error], [found.mean, found.standard_error])
    bits = value(report, "Likelihood", "bits per dimension")
    np.testing.assert_allclose(bits.value, -found.mean / np.log(2.0) / 144)
    np.testing.assert_allclose(bits.standard_error, found.standard_error / np.log(2.0) / 144)
    error = kv.evaluation.reconstruction_error(model, x, **options)
    np.testing.assert_allclose(
        value(report, "Reconstruction", "squared error").value, error.sse.mean
    )
    np.testing.assert_allclose(value(report, "Reconstruction", "SSIM").value, error.ssim.mean)
    parts = kv.evaluation.kl_decomposition(model, x, **options)
    information = value(report, "Latent code", "mutual information")
    np.testing.assert_allclose(information.value, parts.mutual_information.mean)
    np.testing.assert_allclose(
        value(report, "Likelihood", "rate").value, parts.exact_mean_kl, rtol=1e-5
    )
    units = kv.evaluation.active_units(model, x)
    np.testing.assert_allclose(report.per_dimension["variance_of_mean"], units.variances, rtol=1e-5)


@pytest.mark.full
def test_the_elbo_is_minus_distortion_minus_rate(whole):
    parts = {name: value(whole[0], "Likelihood", name).value for name in ("distortion", "rate")}
    elbo = value(whole[0], "Likelihood", "ELBO")
    np.testing.assert_allclose(elbo.value, -sum(parts.values()), rtol=1e-6)
    model, (x, _) = whole[1], whole[2]
    terms = model.compute_terms(tf.constant(x), num_samples=20, seed=9)
    # Both by samples of z: 4 standard errors are 6.3e-5.
    assert abs(np.mean(terms.elbo) - elbo.value) < 4.0 * elbo.standard_error


def test_the_kl_of_the_dimensions_adds_up_to_the_rate(whole):
    total = sum(whole[0].per_dimension["kl"])
    np.testing.assert_allclose(total, value(whole[0], "Likelihood", "rate").value, rtol=1e-5)


def test_the_data_are_read_once(whole):
    assert whole[3].passes == 1
    assert whole[0].configuration["num_examples"] == EXAMPLES


def test_json_holds_what_the_report_holds(whole):
    text = (whole[4] / "report.json").read_text(encoding="utf-8")
    read = json.loads(text, parse_constant=pytest.fail)
    assert read == whole[0].as_dict()
    row = read["sections"]["Likelihood"]["log p(x)"]
    assert row["unit"] == "nats" and {"value", "standard_error", "note"} < set(row)
    assert row["num_examples"] == EXAMPLES
    assert read["sections"]["Likelihood"]["annealed - weighted"]["num_examples"] == 4
    assert read["sections"]["Disentanglement"]["beta vae"]["num_examples"] == 100
    assert read["configuration"]["seed"] == 3 and read["configuration"]["tensorflow"]


class Page(html.parser.HTMLParser):
    """What a page is made of."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_stands_alone_and_is_well_formed(whole):
    report, folder = whole[0], whole[4]
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert len(page.sources) == len(report.figures)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"url\(|@import|<script|<link", text)
    words = " ".join(page.words)
    for name in report.figures:
        assert name in words
    for rows in report.sections.values():
        for row in rows:
            assert row.name in words and row.text.replace("+-", "±") in words
    assert "a<b>c" in words and "<b>" not in text


def test_the_table_has_a_line_for_every_number(whole):
    lines = str(whole[0]).splitlines()
    for rows in whole[0].sections.values():
        for row in rows:
            assert any(line.startswith(f"  {row.name} ") and row.text in line for line in lines)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (Row("a", -98.1234, "nats", 0.456), "-98.12 +- 0.46 nats"),
        (Row("a", 0.01234, "", None), "0.0123"),
        (Row("a", 0.01234, "", float("nan")), "0.0123"),
        (Row("a", 7.97123, "nats", 0.00123), "7.9712 +- 0.0012 nats"),
        (Row("a", 3, "of 16"), "3 of 16"),
    ],
)
def test_numbers_are_written_with_the_digits_they_are_worth(row, text):
    assert row.text == text


def quick(model, data, folder=None, **kwargs):
    return kv.evaluation.report(
        model, data, folder, **{"num_samples": 2, "verbose": False, "budget": None, **kwargs}
    )


@pytest.mark.full
def test_a_discrete_model_of_no_images_omits_what_it_lacks():
    model = vae(
        posterior=kv.posteriors.Bernoulli(3),
        prior=kv.priors.Bernoulli(3),
        decoder=kv.networks.MLPDecoder((5,), (8,)),
        likelihood=kv.likelihoods.Bernoulli((5,)),
        objective=kv.objectives.ELBO(estimator="score_function"),
    )
    report = quick(model, images(6, (5,)), skip=["log p(x)", "active units"])
    assert report.omitted["annealed importance sampling"] == "z is discrete"
    assert report.omitted["samples"] == "takes at least 50 examples"
    assert "disentanglement" in report.omitted
    assert "SSIM" not in [row.name for row in report.sections["Reconstruction"]]
    assert not {"Samples", "Traversals", "Reconstructions"} & set(report.figures)
    assert "Not computed" in str(report)


class OnlyCall(kv.posteriors.Posterior):
    """A head without parameters of its own."""

    def build(self, features_shape):
        self.built = True

    def call(self, features, training=False):
        loc = self.to_density(features)[:, : self.latent_dim]
        return tfd.MultivariateNormalDiag(loc, tf.ones_like(loc))


@pytest.mark.full
def test_a_posterior_without_parameters_omits_what_needs_them():
    only = ["parts of the KL", "gaps of inference", "active units"]
    report = quick(vae(posterior=OnlyCall(2)), images(3), only=only)
    why = "the posterior does not tell parameters from distribution"
    assert report.omitted["parts of the KL"] == report.omitted["gaps of inference"] == why
    assert [row.name for row in report.sections["Latent code"]] == ["active units"]


@pytest.mark.full
def test_a_conditional_model_is_given_its_labels(monkeypatch):
    monkeypatch.setattr(sections, "NUM_DISTRIBUTIONS", 3)
    model = vae(kv.ConditionalVAE, condition=3, prior=kv.priors.ConditionalNormal(2))
    data = tf.data.Dataset.from_tensor_slices((images(6), np.arange(6) % 3)).batch(4)
    report = quick(model, data, num_examples=5)
    assert report.configuration["num_examples"] == 5
    assert report.omitted["parts of the KL"] == "the prior depends on y"
    assert {"Samples", "Traversals", "Reconstructions"} <= set(report.figures)


def test_a_file_in_place_of_the_folder_is_told_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sections, "log_likelihood", None)
    with pytest.raises(ValueError, match="`folder` must be a folder"):
        quick(vae(), images(2), tmp_path / "file")


def test_a_model_of_nan_is_told_before_long_work(monkeypatch):
    monkeypatch.setattr(sections, "log_likelihood", None)
    model = vae()
    model.decoder.weights[0].assign(np.nan * model.decoder.weights[0])
    with pytest.raises(ValueError, match="`model` must give .* finite ELBO.*: 2 of 2 examples"):
        quick(model, images(2))


@pytest.mark.parametrize(
    ("changes", "labels", "count", "why"),
    [
        ({"model": kv.ConditionalVAE, "condition": 3}, True, 30, "codes depend on y"),
        ({"posterior": kv.posteriors.DiagonalNormal(1)}, False, 30, "z has a single dimension"),
        ({}, False, 8, "takes at least 20 observations"),
    ],
)
def test_factors_that_a_model_cannot_be_scored_by_are_told(changes, labels, count, why):
    model, x = vae(**changes), images(4)
    examples = Examples(x, np.arange(4) % 3, conditioned=labels)
    factors = kv.data.FactorData(images(count), np.arange(count)[:, None] % [2, 4])
    compute = Sections(model, examples, 1, {}, factors=factors)
    assert compute.why_no_disentanglement().startswith(why)
    without = Sections(model, examples, 1, {})
    assert without.why_no_disentanglement() == "no `factors` are given"


def test_several_labels_of_an_example_are_left_out():
    data = [(images(3), {"digit": np.arange(3), "pen": np.ones(3)}), (images(2), {})]
    assert read(vae(), data, 4, 1).classes is None
    assert read(vae(), data, 4, 1).x.shape == (4, *IMAGE)


def test_a_class_counts_once_in_bits_per_dimension():
    likelihood = kv.likelihoods.Categorical((5,), 4)
    decoder = kv.networks.MLPDecoder(likelihood.params_shape, (8,))
    model = vae(decoder=decoder, likelihood=likelihood)
    for weight in decoder.weights:
        weight.assign(tf.zeros_like(weight))  # all classes are equally likely: log2(4) = 2 bits
    examples = Examples(np.eye(4, dtype="float32")[[[0, 1, 2, 3, 0]]], None, conditioned=False)
    options = {"seed": 0, "batch_size": 1, "verbose": False}
    compute = Sections(model, examples, 2000, options)
    (row,) = (row for row in compute.log_p_x(1) if row.name == "bits per dimension")
    np.testing.assert_allclose(row.value, 2.0, atol=0.05)


# What is left out.


def test_parts_and_sections_are_named_in_any_spelling():
    latent = {"active units", "parts of the KL", "gaps of inference"}
    assert set(left_out("Latent code", None)) == latent
    assert set(left_out(["ACTIVE_UNITS", "figures"], None)) == {"active units", "figures"}
    assert set(left_out(None, ("elbo", "latent_code"))) == set(PARTS) - latent - {"ELBO"}
    assert left_out(None, None) == {}


@pytest.mark.full
def test_only_what_is_wanted_is_computed_and_printed(monkeypatch, capsys):
    monkeypatch.setattr(kv.core.progress, "_PATIENCE", float("inf"))
    for name in ("log_likelihood", "annealed_importance_sampling", "generate"):
        monkeypatch.setattr(sections, name, None)
    report = quick(vae(), images(3), only="reconstruction", verbose=True)
    assert capsys.readouterr().out == f"{report}\n"
    assert list(report.sections) == ["Reconstruction"] and not report.figures
    assert report.omitted["ELBO"] == "not named in `only`"
    parts = ["samples", "Latent code", "log p(x)", "figures", "reconstruction"]
    report = quick(vae(), images(3), skip=[*parts, "annealed importance sampling"])
    assert list(report.sections) == ["Likelihood"]
    names = [row.name for row in report.sections["Likelihood"]]
    assert names == ["ELBO", "distortion", "rate"]
    assert report.omitted["log p(x)"] == "named in `skip`"


# What there is no time for.

COSTS = Costs(
    trace=0.0,
    encode=0.0,
    decode=0.0,
    gradient=0.0,
    pair=0.0,
    features=0.0,
    num_features=4,
    product=0.0,
)


def test_time_is_shared_and_numbers_are_halved():
    def work(full, least, seconds):
        return Work(full, least, full, lambda costs, count: seconds * count)

    cheap, dear, dearest, fixed = works = (
        work(100, 1, 0.1),  # 10 s
        work(64, 1, 1.0),  # 64 s
        work(64, 1, 2.0),  # 128 s
        Work(64, 2, 64, lambda costs, count: 1000.0),
    )
    # Of 110 s, 82.5 are for these; what cannot be done at all takes none of them.
    found = counts_within(110.0, works, COSTS)
    assert found == {cheap: 100, dear: 32, dearest: 16, fixed: 0}
    spent = sum(work.seconds(COSTS, count) for work, count in found.items() if count)
    assert spent <= 82.5
    assert counts_within(1e6, works, COSTS) == {work: work.full for work in works}
    # Times that are measured ten per cent longer change nothing here.
    assert counts_within(100.0, works, COSTS) == found


@pytest.mark.full
def test_a_report_without_much_time_says_what_it_reduced(monkeypatch, tmp_path):
    # 60 x 8 draws take 0.1 s; a gradient 0.01 s, of which gaps of 2 examples take 3,200.
    known = COSTS._replace(decode=0.1 / 480, gradient=0.01)
    monkeypatch.setattr(plan, "measure", lambda *args: known)
    model, x = vae(), images()
    skip = ["parts of the KL", "samples", "annealed importance sampling", "reconstruction"]
    found = quick(model, x, tmp_path, num_samples=100, budget=1.6, skip=skip)
    assert found.reduced["log p(x)"] == "first 30 examples of 60"
    assert "gaps of inference" in found.omitted
    assert "even on the first 2 examples; budget=None" in found.omitted["gaps of inference"]
    row = value(found, "Likelihood", "log p(x)")
    assert row.num_examples == 30 and row.note.startswith("reduced: first 30 examples, ")
    full = value(found, "Likelihood", "ELBO")
    assert full.num_examples == EXAMPLES and "reduced" not in full.note
    alone = kv.evaluation.log_likelihood(model, x[:30], 100, verbose=False)
    np.testing.assert_allclose(row.value, alone.mean, rtol=1e-6)
    few = f"{alone.share_below_10:.1%} of the examples have less than 10"
    assert few in value(found, "Likelihood", "effective samples").note
    words = [(tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("json", "html")]
    for text in (str(found), *words):
        assert "reduced: first 30 examples" in text and "first 30 examples of 60" in text


class Timed(keras.layers.Layer):
    """A decoder that a clock of its own goes by, a second for each pass."""

    seconds = 0.0

    def build(self, z_shape):
        self.dense = keras.layers.Dense(144)
        self.dense.build(z_shape)

    def call(self, z, training=None):
        def tick(z):
            self.seconds += 1.0
            return z

        waited = tf.numpy_function(tick, [z], z.dtype)
        waited.set_shape(z.shape)
        return tf.reshape(self.dense(z + 0.0 * waited), [-1, *IMAGE])


def test_costs_are_those_of_the_passes(monkeypatch):
    decoder = Timed()
    model, x = vae(decoder=decoder), images()
    clock = types.SimpleNamespace(perf_counter=lambda: decoder.seconds)
    monkeypatch.setattr(costs, "time", clock)
    found = costs.measure(model, Examples(x, None, False), lambda x: np.zeros([len(x), 7]))
    # A pass decodes 8 draws for 60 examples, or 4 for 16 with a gradient; nothing else takes time.
    expected = COSTS._replace(decode=1.0 / (8 * EXAMPLES), gradient=1.0 / (4 * 16), num_features=7)
    assert found == expected


# What is left of a report that is interrupted.


@pytest.mark.full
def test_an_interrupted_report_leaves_what_it_has(tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(sections, "inference_gap", interrupt)
    with pytest.raises(KeyboardInterrupt):
        quick(vae(), images(3), tmp_path, only=["ELBO", "gaps of inference", "figures"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    read = json.loads((tmp_path / "report.json").read_text(), parse_constant=pytest.fail)
    assert read["unfinished"] == ["gaps of inference"]
    assert set(read["sections"]["Likelihood"]) == {"ELBO", "distortion", "rate"}
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert not page.open and page.sources
    assert any("Unfinished" in word for word in page.words)
    assert "gaps of inference" in page.words


BAD = [
    ({"skip": "annealing"}, "`skip` must be among .*Likelihood.*annealed importance sampling"),
    ({"only": ["samples", "pictures"]}, "`only` must be among .*Samples.*gaps of inference"),
    ({"skip": (), "only": "samples"}, "`only` must be None if `skip` is given"),
    ({"skip": 3}, "`skip` must be names of sections"),
    ({"budget": 0.0}, "`budget` must be a finite number > 0"),
    ({"num_samples": 0}, "`num_samples` must be an integer >= 1"),
    ({"num_examples": 0}, "`num_examples` must be an integer >= 1"),
    ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    ({"seed": -1}, "`seed` must be an integer >= 0"),
    ({"verbose": 2}, "`verbose` must be one of"),
    ({"latent_map": "umap"}, "`latent_map` must be one of .*pca.*tsne"),
    ({"factors": 3}, "`factors` must be a keras_vae.data.FactorData"),
    ({"factors": kv.data.FactorData(images(2, (5,)), [[0], [1]])}, "`factors` must have observa"),
    ({"history": {}}, "`history` must hold the logs"),
    ({"history": [-9.0]}, "`history` must hold the logs"),
    ({"features": "inception"}, "`features` must be a function"),
    ({"data": images(0)}, "`data` must hold at least one example"),
    ({"data": 255.0 * images(2)}, r"`x` must be in \[0, 1\]"),
    ({"model": keras.Sequential()}, "`model` must be a VAE"),
]


def test_bad_input_is_refused_before_anything_is_written(tmp_path):
    given = {"model": vae(), "data": images(2)}
    for changes, message in BAD:
        with pytest.raises(ValueError, match=message):
            quick(folder=tmp_path / "folder", **{**given, **changes})
        assert not (tmp_path / "folder").exists()

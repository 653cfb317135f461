"""The report: its numbers are those of the single evaluations, and its page stands alone."""

import html.parser
import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp

import keras_vae as kv
from keras_vae.evaluation.reporting.examples import Examples, read, statistics
from keras_vae.evaluation.reporting.result import Row
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
    small = kv.evaluation.reporting.sections
    numbers = (small.ANNEALED_EXAMPLES, small.NUM_DISTRIBUTIONS, small.GAP_EXAMPLES)
    scores = small.disentanglement_scores
    small.ANNEALED_EXAMPLES, small.NUM_DISTRIBUTIONS, small.GAP_EXAMPLES = 4, 5, 4
    few = {"num_train": 100, "num_eval": 50, "num_bins": 5}
    small.disentanglement_scores = lambda *args, **kwargs: scores(*args, **few, **kwargs)
    try:
        report = kv.evaluation.report(
            model,
            data,
            folder,
            num_samples=7,
            factors=factors,
            history=HISTORY,
            seed=3,
            verbose=False,
        )
    finally:
        small.ANNEALED_EXAMPLES, small.NUM_DISTRIBUTIONS, small.GAP_EXAMPLES = numbers
        small.disentanglement_scores = scores
    return report, model, (x, y), data, folder


def value(report, section, name):
    (row,) = (row for row in report.sections[section] if row.name == name)
    return row


def test_every_section_is_there_and_nothing_is_omitted(whole):
    report = whole[0]
    assert list(report.sections) == [
        "Likelihood",
        "Latent code",
        "Reconstruction",
        "Samples",
        "Disentanglement",
    ]
    assert not report.omitted
    assert list(report.figures) == [
        "The parts of the ELBO",
        "KL of each latent dimension",
        "Learning curves",
        "Posterior means",
        "Reconstructions",
        "Samples",
        "Traversals",
    ]


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


def test_the_elbo_is_minus_distortion_minus_rate(whole):
    parts = {name: value(whole[0], "Likelihood", name).value for name in ("distortion", "rate")}
    elbo = value(whole[0], "Likelihood", "ELBO")
    np.testing.assert_allclose(elbo.value, -sum(parts.values()), rtol=1e-6)
    model, (x, _) = whole[1], whole[2]
    model.compile("adam", jit_compile=False)
    measured = model.evaluate(x, verbose=0, return_dict=True)
    # Both by samples of z: 4 standard errors are 6.3e-5.
    assert abs(measured["elbo"] - elbo.value) < 4.0 * elbo.standard_error


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
    assert set(row) == {"value", "unit", "standard_error", "note"} and row["unit"] == "nats"
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
        model, data, folder, **{"num_samples": 2, "verbose": False, **kwargs}
    )


def test_a_discrete_model_of_no_images_omits_what_it_lacks():
    model = vae(
        posterior=kv.posteriors.Bernoulli(3),
        prior=kv.priors.Bernoulli(3),
        decoder=kv.networks.MLPDecoder((5,), (8,)),
        likelihood=kv.likelihoods.Bernoulli((5,)),
        objective=kv.objectives.ELBO(estimator="score_function"),
    )
    report = quick(model, images(6, (5,)))
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


def test_a_posterior_without_parameters_omits_what_needs_them(monkeypatch):
    monkeypatch.setattr(kv.evaluation.reporting.sections, "NUM_DISTRIBUTIONS", 1)
    report = quick(vae(posterior=OnlyCall(2)), images(3))
    why = "the posterior does not tell parameters from distribution"
    assert report.omitted["parts of the KL"] == report.omitted["gaps of inference"] == why


def test_a_conditional_model_is_given_its_labels(monkeypatch):
    monkeypatch.setattr(kv.evaluation.reporting.sections, "NUM_DISTRIBUTIONS", 3)
    model = vae(kv.ConditionalVAE, condition=3, prior=kv.priors.ConditionalNormal(2))
    data = tf.data.Dataset.from_tensor_slices((images(6), np.arange(6) % 3)).batch(4)
    report = quick(model, data, num_examples=5)
    assert report.configuration["num_examples"] == 5
    assert report.omitted["parts of the KL"] == "the prior depends on y"
    assert {"Samples", "Traversals", "Reconstructions"} <= set(report.figures)


def test_verbose_prints_the_table(capsys, monkeypatch):
    monkeypatch.setattr(kv.evaluation.reporting.sections, "NUM_DISTRIBUTIONS", 1)
    report = quick(vae(), images(3), verbose=True)
    assert capsys.readouterr().out == f"{report}\n"


def test_a_file_in_place_of_the_folder_is_told_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kv.evaluation.reporting.sections, "log_likelihood", None)
    with pytest.raises(ValueError, match="`folder` must be a folder"):
        quick(vae(), images(2), tmp_path / "file")


def test_a_model_of_nan_is_told_before_long_work(monkeypatch):
    monkeypatch.setattr(kv.evaluation.reporting.sections, "log_likelihood", None)
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
    sections = Sections(model, examples, None, 1, {})
    assert sections.why_no_disentanglement(factors).startswith(why)
    assert sections.why_no_disentanglement(None) == "no `factors` are given"


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
    sections = Sections(model, examples, statistics(model, examples, 0, 1), 2000, options)
    (row,) = (row for row in sections.likelihood() if row.name == "bits per dimension")
    np.testing.assert_allclose(row.value, 2.0, atol=0.05)


BAD = [
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


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, changes, message):
    arguments = {"model": vae(), "data": images(2), **changes}
    with pytest.raises(ValueError, match=message):
        quick(folder=tmp_path / "folder", **arguments)
    assert not (tmp_path / "folder").exists()

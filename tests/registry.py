"""The public API, found by reflection, and an example of every class of it.

A new public class has to be entered here: `conformance/test_registry.py` fails until it is. From
then on, every contract that the classes of its kind have is checked.
"""

import importlib
import inspect

import keras
import numpy as np

import keras_vae as kv
from tests.small_models import LATENT, SHAPE, parts

CLASSES = 3

# Rooms whose classes are saved within a model.
SAVED_ROOMS = (
    "posteriors",
    "priors",
    "likelihoods",
    "networks",
    "objectives",
    "optimizers",
    "schedules",
    "models",
)

# Made to be subclassed: they have no density, loss or output of their own.
ABSTRACT = {
    "posteriors.Posterior",
    "posteriors.Quantizer",
    "priors.Prior",
    "priors.CodePrior",
    "likelihoods.Likelihood",
    "objectives.Objective",
    "objectives.Constraint",
    "schedules.Schedule",
    "models.LatentVariableModel",
}


@keras.saving.register_keras_serializable(package="conformance")
def absolute_error(x, mean):
    """Return the sum of absolute errors of images at every sample."""
    return keras.ops.sum(keras.ops.abs(x - mean), axis=(2, 3, 4))


def discriminator(units=3):
    """Return a discriminator of anything, which is smooth."""
    layers = [keras.layers.Flatten(), keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)]
    return keras.Sequential(layers)


# Constructor arguments of every class, none of them a default where there is a choice.
ARGUMENTS = {
    "posteriors.DiagonalNormal": lambda: {"latent_dim": LATENT},
    "posteriors.FullCovarianceNormal": lambda: {"latent_dim": LATENT},
    "posteriors.AutoregressiveFlow": lambda: {
        "latent_dim": LATENT,
        "num_flows": 1,
        "hidden_units": (6,),
        "activation": "tanh",
        "moment_samples": 16,
    },
    "posteriors.Bernoulli": lambda: {
        "latent_dim": LATENT,
        "temperature": 0.7,
        "straight_through": True,
    },
    "posteriors.Categorical": lambda: {
        "latent_dim": LATENT,
        "num_classes": CLASSES,
        "temperature": 0.7,
        "straight_through": True,
    },
    "posteriors.VectorQuantizer": lambda: {
        "maps": (2, 2),
        "codebook_size": 5,
        "code_dim": 3,
        "learning": "gradient",
        "distance": "cosine",
        "decay": 0.9,
        "restart_below": 0.1,
        "gradient": "rotation",
        "entropy_weight": 0.1,
    },
    "posteriors.StochasticQuantizer": lambda: {
        "maps": (LATENT,),
        "codebook_size": CLASSES,
        "code_dim": 3,
        "initial_scale": 0.7,
        "temperature": 0.7,
        "straight_through": True,
    },
    "posteriors.ResidualQuantizer": lambda: {
        "maps": (2, 2),
        "num_quantizers": 2,
        "codebook_size": 5,
        "code_dim": 3,
        "learning": "gradient",
        "decay": 0.9,
        "restart_below": 0.1,
        "gradient": "rotation",
    },
    "posteriors.FSQ": lambda: {"maps": (2, 2), "levels": (3, 4)},
    "posteriors.QuantizerHierarchy": lambda: {
        "top": kv.posteriors.VectorQuantizer((1, 1), 3, 2),
        "bottom": kv.posteriors.VectorQuantizer((2, 2), 5, 3),
        "filters": 4,
    },
    "posteriors.Chain": lambda: {"latent_dims": (3, 2), "hidden": (4,), "activation": "softplus"},
    "posteriors.Ladder": lambda: {
        "latent_dims": (3, 2),
        "hidden": (3, 2),
        "depth": 1,
        "activation": "softplus",
    },
    "priors.StandardNormal": lambda: {"latent_dim": LATENT},
    "priors.MixtureOfNormals": lambda: {
        "latent_dim": LATENT,
        "num_components": 3,
        "seed": 4,
        "covariance": "full",
    },
    "priors.VampPrior": lambda: {
        "latent_dim": LATENT,
        "num_pseudo_inputs": 3,
        "activation": "linear",
        "learned_weights": True,
        "seed": 4,
    },
    "priors.AutoregressiveFlow": lambda: {
        "latent_dim": LATENT,
        "num_flows": 1,
        "hidden_units": (6,),
        "activation": "tanh",
    },
    "priors.TwoStage": lambda: {
        "latent_dim": LATENT,
        "hidden_units": (6,),
        "activation": "tanh",
        "num_samples": 3,
        "seed": 4,
    },
    "priors.UniformCodes": lambda: {"maps": ((1, 1), (2, 2)), "num_codes": (3, 5)},
    # Over the codes of the vector quantizer, of FSQ and of the residual quantizer above.
    "priors.PixelCNN": lambda: {
        "maps": (2, 2),
        "num_codes": 5,
        "filters": 4,
        "num_layers": 2,
        "kernel_size": 3,
    },
    "priors.PixelSNAIL": lambda: {
        "maps": (2, 2),
        "num_codes": 12,
        "filters": 4,
        "num_blocks": 1,
        "layers_per_block": 1,
        "kernel_size": 3,
        "num_heads": 2,
        "head_dim": 3,
    },
    "priors.Hierarchy": lambda: {
        "top": kv.priors.PixelSNAIL((2, 2), 5, filters=4, num_blocks=1, layers_per_block=1),
        "bottom": kv.priors.PixelCNN((2, 2), 5, filters=4, num_layers=1, kernel_size=3),
        "filters": 5,
    },
    "priors.Chain": lambda: {"latent_dims": (3, 2), "hidden": (4,), "activation": "softplus"},
    "priors.ConditionalNormal": lambda: {"latent_dim": LATENT},
    "priors.Bernoulli": lambda: {"latent_dim": LATENT, "learned": True},
    "priors.Categorical": lambda: {
        "latent_dim": LATENT,
        "num_classes": CLASSES,
        "learned": True,
    },
    "likelihoods.Bernoulli": lambda: {"shape": SHAPE},
    "likelihoods.ContinuousBernoulli": lambda: {"shape": SHAPE},
    "likelihoods.Normal": lambda: {"shape": SHAPE, "scale": "shared", "initial_scale": 0.5},
    "likelihoods.Laplace": lambda: {"shape": SHAPE, "scale": "shared", "initial_scale": 0.5},
    "likelihoods.DiscretizedLogisticMixture": lambda: {"shape": SHAPE, "num_components": 2},
    "likelihoods.Categorical": lambda: {"shape": SHAPE, "num_classes": CLASSES},
    "networks.MLPEncoder": lambda: {"hidden_units": (8,), "activation": "relu"},
    "networks.MLPDecoder": lambda: {"shape": SHAPE, "hidden_units": (8,), "activation": "relu"},
    "networks.ConvEncoder": lambda: {
        "filters": (4,),
        "kernel_size": 3,
        "dense_units": 8,
        "activation": "tanh",
    },
    "networks.ConvDecoder": lambda: {
        "shape": SHAPE,
        "filters": (4,),
        "kernel_size": 3,
        "dense_units": 8,
        "activation": "tanh",
    },
    "networks.ResidualEncoder": lambda: {
        "filters": (4,),
        "blocks_per_stage": 1,
        "kernel_size": 3,
        "dense_units": 8,
        "activation": "tanh",
    },
    "networks.ResidualDecoder": lambda: {
        "shape": SHAPE,
        "filters": (4,),
        "blocks_per_stage": 1,
        "kernel_size": 3,
        "dense_units": 8,
        "activation": "tanh",
    },
    "networks.LadderEncoder": lambda: {
        "hidden_units": (3, 2),
        "depth": 1,
        "activation": "tanh",
    },
    "networks.MapEncoder": lambda: {
        "filters": (4, 6),
        "blocks": 1,
        "block_filters": 3,
        "kernel_size": 3,
        "activation": "tanh",
    },
    "networks.MapDecoder": lambda: {
        "shape": SHAPE,
        "filters": (6, 4),
        "blocks": 1,
        "block_filters": 3,
        "kernel_size": 3,
        "activation": "tanh",
    },
    "networks.ResidualBlock": lambda: {"filters": 4, "activation": "tanh", "bottleneck": 3},
    "networks.OutputBias": lambda: {},
    "networks.BottleneckCell": lambda: {
        "bottleneck": 0.75,
        "kernel_size": 2,
        "activation": "tanh",
        "squeeze_excite": True,
        "last_scale": 0.5,
        "kernel_regularizer": keras.regularizers.L2(0.1),
    },
    "networks.BottomUp": lambda: {
        "channels": {4: 4, 1: 6},
        "blocks": 1,
        "cell": example("networks.BottleneckCell"),
        "activation": "tanh",
        "recompute": True,
        "kernel_regularizer": example("networks.SpectralRegularizer"),
    },
    "networks.TopDown": lambda: {
        "groups": {1: (1, 2), 4: (1, 2)},
        "channels": {4: 3},
        "blocks": 2,
        "posterior": "plain",
        "scale_bounds": (0.1, 9.0),
        "cell": example("networks.BottleneckCell"),
        "activation": "tanh",
        "recompute": True,
        "kernel_regularizer": example("networks.SpectralRegularizer"),
    },
    "networks.SpectralRegularizer": lambda: {"weight": 0.25},
    "networks.ConvDiscriminator": lambda: {
        "filters": (4, 6),
        "kernel_size": 3,
        "dense_units": 8,
        "normalization": "group",
        "activation": "tanh",
    },
    "networks.PatchDiscriminator": lambda: {
        "filters": (4, 6),
        "kernel_size": 3,
        "normalization": "spectral",
        "activation": "tanh",
    },
    "networks.SpectralNormalization": lambda: {
        "layer": keras.layers.Dense(3, use_bias=False),
        "use_bias": True,
        "activation": "tanh",
    },
    "objectives.ELBO": lambda: {
        "beta": 0.5,
        "free_bits": 0.1,
        "free_bits_mode": "per_example",
        "num_samples": 2,
    },
    "objectives.ImportanceWeighted": lambda: {
        "num_samples": 2,
        "estimator": "sticking_the_landing",
        "num_groups": 2,
        "elbo_weight": 0.25,
        "baseline": "none",
    },
    "objectives.ExactMarginal": lambda: {"fit_posterior": False, "max_points": 9},
    "objectives.GECO": lambda: {
        "constraint": [kv.objectives.SquaredError(2.0), kv.objectives.NegativeLogLikelihood(9.0)],
        "bound": kv.objectives.ImportanceWeighted(2),
        "initial_multiplier": [0.5, 2.0],
    },
    "objectives.BetaTC": lambda: {
        "dataset_size": 40,
        "alpha": 0.5,
        "beta": 2.0,
        "gamma": 1.5,
        "sampling": "stratified",
        "num_samples": 2,
    },
    "objectives.DIP": lambda: {
        "lambda_od": 3.0,
        "lambda_d": 2.0,
        "kind": "ii",
        "beta": 0.5,
        "num_samples": 2,
    },
    "objectives.InfoVAE": lambda: {
        "alpha": 0.5,
        "lambda_": 9.0,
        "kernel": "imq",
        "bandwidth": 1.5,
        "num_samples": 2,
        "estimator": "sticking_the_landing",
    },
    "objectives.Adversarial": lambda: {
        "objective": kv.objectives.ELBO(0.5),
        "discriminator": discriminator(),
        "loss": "non_saturating",
        "weight": 0.5,
        "adaptive": False,
        "perceptual": keras.Sequential([keras.layers.Dense(3, "tanh")]),
        "perceptual_weight": 2.0,
        "weight_start": 0,
        "r1": 0.5,
        "lecam": 0.25,
    },
    "objectives.LearnedSimilarity": lambda: {
        "discriminator": discriminator(),
        "gamma": 0.5,
        "beta": 2.0,
        "loss": "hinge",
        "feature_layer": None,
        "num_samples": 2,
        "r1": 0.5,
        "lecam": 0.25,
    },
    "objectives.FactorVAE": lambda: {
        "critic": discriminator(),
        "gamma": 5.0,
        "objective": kv.objectives.ELBO(num_samples=2),
        "r1": 0.5,
        "lecam": 0.25,
    },
    "objectives.AdversarialPosterior": lambda: {
        "critic": discriminator(),
        "weight": 0.5,
        "loss": "least_squares",
        "objective": kv.objectives.ELBO(beta=0.25),
        "r1": 0.5,
        "lecam": 0.25,
    },
    "objectives.Capacity": lambda: {
        "capacity": 3.0,
        "gamma": 9.0,
        "num_samples": 2,
        "estimator": "sticking_the_landing",
    },
    "objectives.TargetKL": lambda: {"target": 3.0, "beta": 0.5, "num_samples": 2},
    "objectives.SquaredError": lambda: {"kappa": 2.0, "per": "dimension"},
    "objectives.NegativeLogLikelihood": lambda: {"target": 9.0},
    "objectives.FeatureMatch": lambda: {
        "features": keras.Sequential([keras.Input(SHAPE), keras.layers.AveragePooling2D(2)]),
        "kappa": 2.0,
    },
    "objectives.Distance": lambda: {"function": absolute_error, "tolerance": 3.0},
    "optimizers.PartOptimizer": lambda: {
        "optimizers": {"encoder": kv.optimizers.RAdam(0.25), "decoder": keras.optimizers.SGD(0.5)},
        "parts": ["encoder", "encoder", "decoder"],
        "every": {"decoder": 2},
        "start": {"encoder": 3},
    },
    "optimizers.RAdam": lambda: {
        "learning_rate": 0.25,
        "beta_1": 0.8,
        "beta_2": 0.95,
        "epsilon": 1e-5,
    },
    "schedules.Constant": lambda: {"value": 0.5},
    "schedules.Linear": lambda: {"start": 0.25, "end": 2.0, "steps": 7},
    "schedules.Cosine": lambda: {"start": 2.0, "end": 0.25, "steps": 7},
    "schedules.Sigmoid": lambda: {"start": 0.25, "end": 2.0, "steps": 7, "steepness": 6.0},
    "schedules.Exponential": lambda: {"start": 2.0, "end": 0.01, "steps": 7},
    "schedules.Piecewise": lambda: {"boundaries": [3, 7], "values": [0.5, -1.0, 2.0]},
    "schedules.Cyclical": lambda: {
        "low": 0.25,
        "high": 2.0,
        "period": 7,
        "shape": "ramp_and_hold",
        "ramp": 0.6,
        "amplitude": "exponential",
        "decay": 0.9,
        "cycles": 3,
    },
    "schedules.OneCycle": lambda: {
        "max_value": 0.5,
        "steps": 17,
        "warmup": 0.4,
        "initial_division": 10.0,
        "final_division": 100.0,
        "shape": "linear",
        "momentum": (0.85, 0.95),
        "endpoint": False,
    },
    "schedules.WarmupThen": lambda: {
        "schedule": kv.schedules.Cosine(2.0, 0.25, steps=7),
        "steps": 5,
        "start": 0.125,
    },
    "models.VAE": lambda: {**parts(), "objective": kv.objectives.ELBO(0.5), "seed": 3},
    "models.BetaVAE": lambda: {**parts(), "beta": 2.0, "seed": 3},
    "models.IWAE": lambda: {
        **parts(),
        "num_samples": 3,
        "estimator": "doubly_reparameterized",
        "seed": 3,
    },
    "models.GECOVAE": lambda: {
        **parts(),
        "constraint": kv.objectives.SquaredError(2.0),
        "bound": kv.objectives.ImportanceWeighted(2),
        "initial_multiplier": 0.5,
        "seed": 3,
    },
    "models.VQVAE": lambda: {
        **parts(posterior=example("posteriors.FSQ")),
        "commitment": 0.5,
        "seed": 3,
    },
    "models.PriorModel": lambda: {
        "prior": example("priors.PixelCNN"),
        "condition": CLASSES,
        "seed": 3,
    },
    "models.VAEGAN": lambda: {
        **parts(),
        "discriminator": discriminator(),
        "gamma": 0.5,
        "loss": "hinge",
        "feature_layer": None,
        "seed": 3,
    },
    "models.ConditionalVAE": lambda: {**parts(), "condition": CLASSES, "seed": 3},
    "models.HierarchicalVAE": lambda: {
        "bottom_up": example("networks.BottomUp"),
        "top_down": example("networks.TopDown"),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
        "objective": kv.objectives.ELBO(0.5),
        "seed": 3,
    },
    "models.LadderVAE": lambda: {
        "latent_dims": (3, 2),
        "hidden": (6, 4),
        "likelihood": kv.likelihoods.Bernoulli(SHAPE),
        "depth": 1,
        "activation": "tanh",
        "seed": 3,
    },
}

# Each row is one small model; together they hold every head and network at least once. A row costs
# one compilation by XLA, so a new head joins a row where it can.
COMBINATIONS = {
    "diagonal, standard, Bernoulli, MLP": (
        ["posteriors.DiagonalNormal", "priors.StandardNormal", "likelihoods.Bernoulli"]
        + ["networks.MLPEncoder", "networks.MLPDecoder", "networks.OutputBias"]
    ),
    "full covariance, mixture, continuous Bernoulli, convolutional": (
        ["posteriors.FullCovarianceNormal", "priors.MixtureOfNormals"]
        + ["likelihoods.ContinuousBernoulli", "networks.ConvEncoder", "networks.ConvDecoder"]
    ),
    "flow, VampPrior, normal, residual": (
        ["posteriors.AutoregressiveFlow", "priors.VampPrior", "likelihoods.Normal"]
        + ["networks.ResidualEncoder", "networks.ResidualDecoder", "networks.ResidualBlock"]
    ),
    "diagonal, flow, logistic mixture, MLP": (
        ["posteriors.DiagonalNormal", "priors.AutoregressiveFlow"]
        + ["likelihoods.DiscretizedLogisticMixture", "networks.MLPEncoder", "networks.MLPDecoder"]
    ),
    "diagonal, conditional, categorical, MLP": (
        ["posteriors.DiagonalNormal", "priors.ConditionalNormal", "likelihoods.Categorical"]
        + ["networks.MLPEncoder", "networks.MLPDecoder", "models.ConditionalVAE"]
    ),
    "hierarchy": [
        "models.HierarchicalVAE",
        "networks.BottomUp",
        "networks.TopDown",
        "networks.BottleneckCell",
        "networks.SpectralRegularizer",
    ],
    "chain, chain": ["posteriors.Chain", "priors.Chain"],
    "ladder, chain": ["networks.LadderEncoder", "posteriors.Ladder", "priors.Chain"],
    "diagonal, two-stage": ["posteriors.DiagonalNormal", "priors.TwoStage"],
    "categorical, categorical": ["posteriors.Categorical", "priors.Categorical"],
    "stochastic quantizer, categorical": ["posteriors.StochasticQuantizer", "priors.Categorical"],
    "vector quantizer, PixelCNN, maps": (
        ["posteriors.VectorQuantizer", "priors.PixelCNN", "likelihoods.Normal"]
        + ["networks.MapEncoder", "networks.MapDecoder"]
        + ["networks.PatchDiscriminator", "networks.SpectralNormalization"]
    ),
    "residual quantizer, hierarchy, MLP": ["posteriors.ResidualQuantizer", "priors.Hierarchy"],
    "FSQ, PixelSNAIL, logistic mixture, MLP": (
        ["posteriors.FSQ", "priors.PixelSNAIL", "likelihoods.DiscretizedLogisticMixture"]
    ),
    "Laplace, discriminator": ["likelihoods.Laplace", "networks.ConvDiscriminator"],
    "hierarchy of quantizers, uniform codes, maps": (
        ["posteriors.QuantizerHierarchy", "priors.UniformCodes"]
        + ["networks.MapEncoder", "networks.MapDecoder"]
    ),
    "Bernoulli, Bernoulli": ["posteriors.Bernoulli", "priors.Bernoulli"],
}


def public_objects():
    """Return every public class and function, by its path below `keras_vae`."""
    names = [n for n in kv.__all__ if inspect.ismodule(getattr(kv, n))]
    found = {}
    for room_name in sorted({*names, "models"}):
        room = importlib.import_module(f"keras_vae.{room_name}")
        found |= {f"{room_name}.{name}": getattr(room, name) for name in room.__all__}
    in_rooms = {id(value) for value in found.values()}
    found |= {n: getattr(kv, n) for n in kv.__all__ if id(getattr(kv, n)) not in in_rooms}
    return {name: value for name, value in found.items() if callable(value)}


def saved_classes():
    """Return the public classes that Keras can save, without those made to be subclassed."""
    return {
        name: value
        for name, value in public_objects().items()
        if name.partition(".")[0] in SAVED_ROOMS
        and inspect.isclass(value)
        and hasattr(value, "get_config")
        and name not in ABSTRACT
    }


def example(name, /, **changes):
    """Return an instance of a public class, made from its entry above."""
    return public_objects()[name](**{**ARGUMENTS[name](), **changes})


def small_model(names, **kwargs):
    """Return a model made of the named classes, the rest being those of `parts`."""
    if "models.HierarchicalVAE" in names:
        return example("models.HierarchicalVAE", **kwargs)
    likelihood = _made(names, "likelihoods.", default="likelihoods.Bernoulli")
    chosen = {
        "encoder": _made(names, "networks.", "Encoder", default="networks.MLPEncoder"),
        "decoder": _made(
            names, "networks.", "Decoder", "networks.MLPDecoder", shape=likelihood.params_shape
        ),
        "posterior": _made(names, "posteriors.", default="posteriors.DiagonalNormal"),
        "prior": _made(names, "priors.", default="priors.StandardNormal"),
        "likelihood": likelihood,
    }
    if any(name.endswith("Discriminator") for name in names):
        judge = _made(names, "networks.", "Discriminator")
        # By the hinge, the last bias of a discriminator that knows nothing has no gradient.
        loss = "non_saturating"
        kwargs["objective"] = kv.objectives.Adversarial(kv.objectives.ELBO(), judge, loss=loss)
    if isinstance(chosen["posterior"], kv.posteriors.Quantizer):
        if not any(name.startswith("priors.") for name in names):
            del chosen["prior"]
        return kv.VQVAE(**chosen, seed=5, **kwargs)
    if isinstance(chosen["prior"], kv.priors.ConditionalNormal):
        return kv.ConditionalVAE(condition=CLASSES, **chosen, seed=5, **kwargs)
    return kv.VAE(**chosen, seed=5, **kwargs)


def _made(names, start, end="", default="", **changes):
    found = [name for name in names if name.startswith(start) and name.endswith(end)]
    return example(found[0] if found else default, **changes)


def batch(model, size=8):
    """Return data `(x, y)` within the support of a model's likelihood; y where it needs labels."""
    rng = np.random.default_rng(0)
    x = rng.random((size, *model.likelihood_head.shape), "float32")
    if isinstance(model.likelihood_head, kv.likelihoods.Bernoulli):
        x = np.round(x)
    elif isinstance(model.likelihood_head, kv.likelihoods.DiscretizedLogisticMixture):
        x = np.round(255.0 * x)
    elif isinstance(model.likelihood_head, kv.likelihoods.Categorical):
        x = rng.integers(0, CLASSES, x.shape)
    labels = isinstance(model, kv.ConditionalVAE)
    return x, (rng.integers(0, CLASSES, size) if labels else None)

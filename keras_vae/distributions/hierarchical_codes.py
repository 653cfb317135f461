"""Several maps of codes, each given all the maps above it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from keras_vae.core.empty_batches import of_any_batch
from keras_vae.core.seeds import sampling_seed
from keras_vae.distributions.causal_network import embed
from keras_vae.distributions.codes import CodeGroups
from keras_vae.distributions.groups import Choose, GroupedDistribution, Walked

tfd = tfp.distributions


class HierarchicalCodes(GroupedDistribution):
    """Codes of one or several maps, and of a map below them.

    log p(z) = log p(z_above) + log p(z_below | z_above),  z = [z_above, z_below]

    Args:
        above: Distribution of the codes above, batch [...] and event [N_above].
        below: Function from the codes above `[..., N_above]` to the distribution of the map below.
        groups: The layout of z.
    """

    def __init__(
        self,
        above: tfd.Distribution,
        below: Callable[[tf.Tensor], tfd.Distribution],
        groups: CodeGroups,
    ):
        parameters = dict(locals())
        self._above, self._below, self.groups = above, below, groups
        super().__init__(groups.sizes, tf.int32, parameters, "HierarchicalCodes")

    def _batch_shape(self) -> tf.TensorShape:
        return self._above.batch_shape

    def _batch_shape_tensor(self, **unused: Any) -> tf.Tensor:
        return self._above.batch_shape_tensor()

    def walk(self, choose: Choose) -> Walked:
        above = self._above
        walked = above.walk(choose) if hasattr(above, "walk") else [(above, choose(0, above))]
        below = self._below(tf.concat([value for _, value in walked], axis=-1))
        return [*walked, (below, choose(len(walked), below))]

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        return super()._sample_n(n, sampling_seed(seed))


class CodeFeatures(keras.layers.Layer):
    """Features of maps of codes, at the size of another map.

    Codes are embedded, convolved with their neighbours, and repeated to the size of the map. The
    features of several maps are added.

    Args:
        groups: The layout of the codes.
        maps: Height H and width W of the other map.
        filters: Number F of features.
        **kwargs: Passed on to `keras.layers.Layer`.

    Example:
        >>> layer = CodeFeatures(CodeGroups.of((2, 2), 8), (4, 4), 16)
        >>> layer.build()
        >>> layer(tf.zeros([5, 4], tf.int32)).shape
        TensorShape([5, 4, 4, 16])
    """

    def __init__(self, groups: CodeGroups, maps: tuple[int, int], filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups, self.maps, self.filters = groups, maps, filters
        policy = self.dtype_policy
        # Two layers for each map; the second gives the features.
        self.hidden = [
            keras.layers.Conv2D(filters, 3, padding="same", activation="relu", dtype=policy)
            for _ in groups.maps
        ]
        self.out = [
            keras.layers.Conv2D(filters, 3, padding="same", dtype=policy) for _ in groups.maps
        ]

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Creates the weights; needs no shape."""
        normal = keras.initializers.RandomNormal(stddev=0.5)
        self.embeddings = [
            self.add_weight(shape=(count, self.filters), initializer=normal, name=f"embeddings_{n}")
            for n, count in enumerate(self.groups.num_codes)
        ]
        for layer in (*self.hidden, *self.out):
            layer.build((None, None, None, self.filters))
        self.built = True

    def call(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns features `[..., H, W, F]` of codes `[..., N]`."""
        leading, size = tf.shape(codes)[:-1], self.groups.size
        groups = self.groups.split(tf.reshape(tf.cast(codes, tf.int32), [-1, size]))
        features = tf.add_n([self._of_map(n, group) for n, group in enumerate(groups)])
        shape = (*self.maps, self.filters)
        features = tf.reshape(features, tf.concat([leading, shape], axis=0))
        features.set_shape([*codes.shape[:-1], *shape])
        return features

    def _of_map(self, number: int, codes: tf.Tensor) -> tf.Tensor:
        """Returns features `[R, H, W, F]` of the codes `[R, N_g]` of one map."""
        height, width = (1, *self.groups.maps[number])[-2:]
        embedded = embed(codes, self.embeddings[number])
        maps = tf.reshape(embedded, [-1, height, width, self.filters])
        found = of_any_batch(self.out[number], of_any_batch(self.hidden[number], maps))
        rows, columns = (
            tf.range(large) * small // large
            for small, large in zip((height, width), self.maps, strict=True)
        )
        return tf.gather(tf.gather(found, rows, axis=1), columns, axis=2)

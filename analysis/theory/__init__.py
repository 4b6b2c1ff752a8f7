"""A check, which can fail, that MaxUp with Gaussian noise acts as a penalty on the gradient norm.

For a loss L with gradient g and Hessian H at an image x, independent standard normal z_1 … z_m, and M_m the largest of
m independent standard normal numbers with mean c_m,

    E max_i L(x + σ z_i) = L + σ c_m |g| + σ²/2 [tr H + (E[M_m²] - 1) ĝᵀHĝ] + O(σ³),      ĝ = g / |g|.

Modules: ``constants`` (c_m and E[M_m²]), ``derivatives`` (g and what is needed of H), ``gradient_norm`` (draws, from
the MaxUp loss that training uses), ``regression`` and ``verdict`` (statistics: numpy and statsmodels, no torch),
``networks`` (which networks), ``lab`` (from names to a report), ``report`` and ``figures``.

This is the only package of ``analysis`` that imports torch and ``train``: it examines training itself.
"""

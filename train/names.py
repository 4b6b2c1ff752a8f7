"""What to say of a name that is unknown: how the same thing is called here, or which name it is nearest to, if any."""

import difflib
import re
from collections.abc import Iterable, Mapping

_NEAR = 0.8  # of difflib's ratio: a letter too many or too few in a short word, two or three in a long one

#: Keys as other projects call them, by their names here. The first one that a configuration has is meant.
KEYS: Mapping[tuple[str, ...], str] = {
    ("lr",): "learning_rate, learningrate, base_lr, initial_lr, init_lr, lr_init, max_lr, peak_lr, lrate",
    ("gamma",): "lr_decay, lr_gamma, decay_rate, lr_drop",
    ("step_epochs",): "lr_step, lr_step_size, lr_steps, step_lr, milestones, lr_milestones, decay_epochs",
    ("schedule",): "scheduler, lr_schedule, lr_scheduler, sched",
    ("warmup",): "warmup_epochs, warm_up, warmup_steps, ramp, rampup",
    ("sigma",): "noise, noise_sd, noise_std, noise_level, noise_scale, sd, std_dev, stddev, stdev",
    ("m",): "num_aug, num_augs, n_aug, num_copies, n_copies, copies, num_noise, num_noise_vec, gauss_num, num_samples",
    ("batch_size",): "bs, batch, batchsize, train_batch, train_batch_size, mini_batch_size",
    ("epochs",): "num_epochs, n_epochs, max_epochs, nb_epochs, total_epochs",
    ("weight_decay",): "wd, l2, wdecay, l2_reg",
    ("arch",): "model, architecture, net, network, backbone",
    ("objective",): "method, loss, criterion, algorithm, loss_fn, trainer",
    ("dataset", "corpus"): "data, data_set, data_dir, data_path, dataset_name, corpus, dataset",
    ("lam",): "lambda, lbd, lamda, reg_weight",
    ("init",): "pretrained, pretrained_model, finetune, init_from, weights, checkpoint, load, resume_from",
    ("dtype",): "precision, amp, fp16, bf16, mixed_precision",
    ("augment",): "augmentation, augmentations, transform, transforms, data_augmentation",
    ("accumulate",): "accumulation, grad_accum, accumulation_steps, gradient_accumulation_steps",
    ("ema",): "ema_decay, moving_average, swa",
    ("seed",): "random_seed, manual_seed, rng_seed, random_state",
    ("label_smoothing",): "smoothing, ls, smooth",
    ("holdout",): "val_size, validation_size, valid_size, held_out, val_split, validation_split",
    ("device",): "gpu, cuda, gpus, gpu_id",
    ("steps",): "num_steps, attack_steps, n_steps, pgd_steps, attack_iters, num_iter",
    ("epsilon",): "eps, attack_eps, attack_epsilon",
    ("temperature",): "temp, tau",
    ("bptt",): "seq_len, sequence_length, seq_length, context_length, block_size",
    ("embedding",): "emsize, emb_size, embedding_size, embedding_dim, embed_dim, d_model",
    ("hidden",): "nhid, hidden_size, hidden_dim, dim_feedforward, d_ff",
    ("layers",): "nlayers, num_layers, n_layers, depth",
    ("heads",): "nhead, num_heads, n_heads",
    ("weight_dropout",): "wdrop, weight_drop",
    ("clip",): "grad_clip, clip_grad, gradient_clip, max_norm, max_grad_norm, clip_grad_norm, gradient_clip_val",
    ("patience",): "nonmono",
    ("hidden_dropout",): "dropout, drop, drop_rate, hdrop",
    ("optimizer",): "optim, opt, optimizer",
    ("betas",): "adam_betas, opt_betas",
    ("layer_decay",): "layer_wise_lr_decay, llrd, lr_layer_decay, layerwise_lr_decay",
    ("lr_warmup",): "lr_warmup_epochs, warmup_lr_epochs",
    ("lr_min",): "min_lr, eta_min, lr_end, final_lr",
    ("grad_checkpointing",): "gradient_checkpointing, activation_checkpointing, checkpointing",
    ("decay_norms",): "norm_weight_decay, wd_norm, decay_norm, bias_weight_decay",
    ("arch_options",): "model_kwargs, model_args, arch_kwargs, arch_args, model_options",
    ("init_head",): "reset_head, reset_classifier",
    ("crop",): "img_size, image_size, input_size, crop_size, train_crop_size",
    ("resize",): "resize_size, val_resize_size",
    ("workers",): "num_workers, n_workers, nworkers, dataloader_workers",
}
_BY_WORD = {word: here for here, words in KEYS.items() for word in words.split(", ")}

#: Keys that many projects have, and why there is none here.
NONE: Mapping[str, str] = {
    **dict.fromkeys(("num_workers", "workers", "n_workers", "pin_memory"), "all data lies in memory"),
    **dict.fromkeys(("dropout", "drop", "drop_rate"), "that is an option of the network; see arch_options"),
}


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """A message that ``name`` is none of ``known``, which are listed; ``what`` says of what they are names."""
    return f"unknown {what} {name!r}{hint(name, known)} There are: {', '.join(known)}."


def hint(name: str, known: Iterable[str]) -> str:
    """The end of a message that ``name`` is none of ``known``: the name that is meant, where one is near.

    Returns:
        Such as "; did you mean 'sigma'?", or "." where no name is near.
    """
    numbers = re.findall(r"\d+", name)  # resnet18 is not a misspelt resnet110
    names = {word.lower(): word for word in known if not numbers or re.findall(r"\d+", word) == numbers}
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=_NEAR)
    return f"; did you mean {names[near[0]]!r}?" if near else "."


def key_hint(key: str, known: Iterable[str]) -> str:
    """The same of a key of a configuration, which other projects may call otherwise.

    Returns:
        The same, or "; there is none, since …".
    """
    names, word = list(known), key.lower().replace("-", "_")
    if here := next((here for here in _BY_WORD.get(word, ()) if here in names), None):
        return f"; did you mean {here!r}?"
    return f"; there is none, since {NONE[word]}." if word in NONE else hint(word, names)

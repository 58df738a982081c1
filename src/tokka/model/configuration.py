"""The encoder's config.json, read as data: only keys and values that can do nothing but size a network.

transformers has had several ways to run code that a config.json names, also with `trust_remote_code=False`;
so its own reader never sees the file, only what passed here.
"""

from collections.abc import Mapping
from pathlib import Path

from tokka import files
from tokka.errors import Refused

Plain = str | int | float | None
EncoderConfig = dict[str, Plain]
MODEL_TYPES = ("bert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta")

# Keys that size a network of the types above.
SIZES = """
    model_type vocab_size type_vocab_size max_position_embeddings hidden_size embedding_size num_hidden_layers
    num_attention_heads intermediate_size hidden_act hidden_dropout_prob attention_probs_dropout_prob
    layer_norm_eps initializer_range pad_token_id relative_attention_num_buckets
    activation attention_dropout dim dropout hidden_dim n_heads n_layers sinusoidal_pos_embds
"""
# Keys that are harmless and mean nothing for an encoder: read over, never passed on.
MEANINGLESS = """
    _name_or_path add_cross_attention architectures bad_words_ids bos_token_id chunk_size_feed_forward
    classifier_dropout cls_token_id cross_attention_hidden_size decoder_start_token_id dtype eos_token_id
    finetuning_task gradient_checkpointing id2label is_decoder is_encoder_decoder label2id mask_token_id
    output_attentions output_hidden_states output_past pad_token pooler_fc_size pooler_num_attention_heads
    pooler_num_fc_layers pooler_size_per_head pooler_type position_embedding_type prefix problem_type
    pruned_heads qa_dropout return_dict sep_token_id seq_classif_dropout summary_activation
    summary_last_dropout summary_type summary_use_proj task_specific_params tie_weights_ tie_word_embeddings
    tokenizer_class torch_dtype torchscript transformers_version use_cache directionality
"""
ALLOWED, IGNORED = frozenset(SIZES.split()), frozenset(MEANINGLESS.split())
# Values of ignored keys that would make another network than the one that we build.
MUST_BE = {"position_embedding_type": "absolute", "is_decoder": False, "is_encoder_decoder": False}


def read_encoder_config(path: Path) -> EncoderConfig:
    """Read config.json and return its allowed keys, sorted; Refused for any other key, value or model type."""
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise Refused(f"{path} holds no JSON object", "name a folder with an encoder's config.json")
    return check_encoder_config(found, origin=str(path))


def check_encoder_config(found: Mapping[str, object], origin: str = "config.json") -> EncoderConfig:
    """`read_encoder_config` for a mapping that is in memory; raises what that does."""
    if found.get("model_type") not in MODEL_TYPES:
        raise Refused(
            f"{origin}: model_type {found.get('model_type')!r} is not supported",
            f"choose a base model of one of these types: {', '.join(MODEL_TYPES)}",
        )
    plain = {key: _check(key, value, origin) for key, value in found.items()}
    return {key: plain[key] for key in sorted(ALLOWED & found.keys())}


def token_capacity(config: EncoderConfig) -> int:
    """The longest input in tokens; RoBERTa's kin lose two positions to padding."""
    positions = int(config.get("max_position_embeddings") or 512)
    return positions - 2 if config["model_type"] in {"roberta", "xlm-roberta", "mpnet"} else positions


def has_token_types(config: EncoderConfig) -> bool:
    """Whether the network tells the two texts of a pair apart by an input of its own."""
    return config["model_type"] in {"bert", "electra"} and config.get("type_vocab_size", 2) not in (0, 1)


def _check(key: str, value: object, origin: str) -> Plain:
    if key not in ALLOWED | IGNORED:
        raise Refused(
            f"{origin}: key {key!r} is not on the allow-list",
            "remove it if the network does without; keys such as auto_map can make a loader run code",
        )
    if value is not None and key in MUST_BE and value != MUST_BE[key]:
        raise Refused(f"{origin}: {key} = {value!r} is not supported, expected {MUST_BE[key]!r}")
    if key in IGNORED:
        return None
    if not isinstance(value, Plain):
        raise Refused(f"{origin}: {key} holds a {type(value).__name__}, expected a plain value")
    return value

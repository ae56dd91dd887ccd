"""Why transformers couldn't load a model: its own reason, or the version that the model needs."""


def load_failure(name: str, error: Exception) -> str:
    """What to say of a model that didn't load.

    Arguments:
        name: a folder or a name on the hub, as for `from_pretrained`.
        error: transformers' own.

    Returns:
        the error's text. Where another release of transformers wrote the model, the sentence names
        it; where the installed one doesn't know models of this type, it replaces the error's.
    """
    import transformers  # takes seconds, and only a failure needs it here

    try:
        config, _ = transformers.PretrainedConfig.get_config_dict(name, local_files_only=True)
    except Exception:  # it has no configuration that can be read, which is why it didn't load
        return str(error)
    here, written, kind = (
        transformers.__version__,
        config.get("transformers_version"),
        config.get("model_type"),
    )
    if not isinstance(written, str) or not isinstance(kind, str):
        return str(error)
    older = _release(here) < _release(written)
    if older and kind not in transformers.CONFIG_MAPPING and not config.get("auto_map"):
        return (
            f"transformers {here} doesn't know models of type {kind!r}, and {written} wrote this one. "
            f'Install that: pip install "transformers>={written}".'
        )
    if older or _release(here)[0] > _release(written)[0]:
        return f"{error} (It was written by transformers {written}, and {here} is installed.)"
    return str(error)


def _release(version: str) -> tuple[int, ...]:
    """The major and minor number, by which releases are compared."""
    return tuple(int(number) if number.isdecimal() else 0 for number in version.split(".")[:2])

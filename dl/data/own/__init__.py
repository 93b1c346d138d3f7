"""Files of the user's own, by kind: pictures, texts, recordings, series, tables, ratings.

A module reads one kind, and is called by its name. It has ``NAMED`` (data sets of that kind that go by a name),
``OF_NAMED`` (columns that these, and any ``tfds:NAME``, must have as they are loaded), ``FOR_NAMED`` (fields that
are for these too), ``Own<Kind>`` (fields for the config of a script that takes such files), ``read(source, own) ->
Found`` and, where named sets have other columns than the kind's, ``named(splits) -> Splits`` or ``load_named(name,
own) -> Splits``. :func:`dl.data.open` is the door.
"""

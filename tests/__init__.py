"""A package, since neural-tangents installs one of this name, which would hide a mere folder."""

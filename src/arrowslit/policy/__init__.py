"""PURE: facts in, Allow or Deny out."""

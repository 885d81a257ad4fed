"""Pretrained models, by hub id or local folder, behind one small interface per role."""

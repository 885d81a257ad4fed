"""Repair single defects of a picture at a given strength: arrays in, arrays out.

Every function takes and returns pixels as uint8 arrays, height x width x 3 (RGB), of any size from 1 x 1 on.
"""

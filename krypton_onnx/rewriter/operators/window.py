"""Regions and windows: where an occlusion lands, and the rectangle that the next operator reads."""

from __future__ import annotations

from krypton_onnx.rewriter.functions import FunctionText

# All regions of a batch at once: G geometries x N positions x 2 axes. Integer Div truncates toward zero, so what it
# divides is clamped at zero first (a region that starts before the frame starts at its edge anyway).
_PLACE_REGIONS = """
PlaceRegions <jump, before, after, scale, frame> (occlusion_origin, occlusion_patch, propagation_threshold)
    => (origins, extents) {
  per_position = Constant <value_ints = [-1, 1, 2]> ()
  per_geometry = Constant <value_ints = [-1, 2]> ()
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  two = Constant <value_int = 2> ()
  first = Constant <value_ints = [0]> ()
  second = Constant <value_ints = [1]> ()
  jumps = Constant <value_ints : ints = @jump> ()
  befores = Constant <value_ints : ints = @before> ()
  afters = Constant <value_ints : ints = @after> ()
  scales = Constant <value_ints : ints = @scale> ()
  frames = Constant <value_ints : ints = @frame> ()
  j = Reshape (jumps, per_position)
  reach_before = Reshape (befores, per_position)
  reach_after = Reshape (afters, per_position)
  s = Reshape (scales, per_position)
  f = Reshape (frames, per_position)
  pixel = Unsqueeze (occlusion_origin, first)
  o = Mul (pixel, s)
  size = Shape <start = 2, end = 4> (occlusion_patch)
  last_pixel = Sub (size, one)
  last = Mul (last_pixel, s)

  start_reach = Sub (o, reach_before)
  start_clamped = Max (start_reach, zero)
  j_less = Sub (j, one)
  start_up = Add (start_clamped, j_less)
  start_cell = Div (start_up, j)
  f_last = Sub (f, one)
  start = Min (start_cell, f_last)

  o_last = Add (o, last)
  stop_reach = Add (o_last, reach_after)
  stop_clamped = Max (stop_reach, zero)
  stop_cell = Div (stop_clamped, j)
  stop_next = Add (stop_cell, one)
  stop_frame = Min (stop_next, f)
  start_next = Add (start, one)
  stop = Max (stop_frame, start_next)

  own = Sub (stop, start)
  widest = ReduceMax <keepdims = 0> (own, second)
  f_plain = Reshape (frames, per_geometry)
  f_float = Cast <to = 1> (f_plain)
  tau = Unsqueeze (propagation_threshold, second)
  cap_float = Mul (tau, f_float)
  cap_round = Round (cap_float)
  cap_cells = Cast <to = 7> (cap_round)
  cap = Max (cap_cells, one)
  extents = Min (widest, cap)

  e = Unsqueeze (extents, second)
  room = Sub (f, e)
  kept = Min (start, room)
  doubled = Mul (o, two)
  centre_sum = Add (doubled, last)
  centre_after = Add (centre_sum, reach_after)
  centre = Sub (centre_after, reach_before)
  e_less = Sub (e, one)
  e_half = Mul (j, e_less)
  crop_reach = Sub (centre, e_half)
  crop_clamped = Max (crop_reach, zero)
  j_double = Mul (j, two)
  crop_cell = Div (crop_clamped, j_double)
  cropped = Min (crop_cell, room)
  cap_each = Unsqueeze (cap, second)
  fits = LessOrEqual (own, cap_each)
  origins = Where (fits, kept, cropped)
}"""


# (Split, not Gather: ONNX Runtime 1.20 fuses Gathers of one tensor into Splits of equal names, and refuses the model.)
_PLACES = """
  frame = Shape <start = 1, end = 3> (view)
  size = Shape <start = 1, end = 3> (patch)
  extent_y, extent_x = Split <axis = 0, num_outputs = 2> (extent)
  frame_y, frame_x = Split <axis = 0, num_outputs = 2> (frame)
  size_y, size_x = Split <axis = 0, num_outputs = 2> (size)
  origin_y, origin_x = Split <axis = 1, num_outputs = 2> (origin)
  patch_y, patch_x = Split <axis = 1, num_outputs = 2> (patch_origin)"""


def _axis(name: str, table: str = "") -> str:
    """Window's index arithmetic along one axis: cell, place in the patch, and the tests for patch and frame.

    `table`: cells are looked up there, those of the result's own frame being what is counted.
    """
    cell = f"""
  cell_{name} = Add (origin_{name}, range_{name})"""
    if table:
        cell = f"""
  own_{name} = Add (origin_{name}, range_{name})
  cell_{name} = Gather <axis = 0> ({table}, own_{name})"""
    return f"""
  count_{name} = Squeeze (extent_{name})
  range_{name} = Range (zero, count_{name}, one){cell}
  place_{name} = Sub (cell_{name}, patch_{name})
  from_{name} = GreaterOrEqual (place_{name}, zero)
  until_{name} = Less (place_{name}, size_{name})
  in_patch_{name} = And (from_{name}, until_{name})
  frame_from_{name} = GreaterOrEqual (cell_{name}, zero)
  frame_until_{name} = Less (cell_{name}, frame_{name})
  in_frame_{name} = And (frame_from_{name}, frame_until_{name})"""


# One Gather over a table of rows: the view's cells, one padding row, then the patches' cells.
_CONSTANTS = """
  zero = Constant <value_int = 0> ()
  one = Constant <value_int = 1> ()
  second = Constant <value_ints = [1]> ()
  third = Constant <value_ints = [2]> ()"""

_LOOK_UP = """
  in_patch_rows = Unsqueeze (in_patch_y, third)
  in_patch_columns = Unsqueeze (in_patch_x, second)
  in_patch = And (in_patch_rows, in_patch_columns)
  in_frame_rows = Unsqueeze (in_frame_y, third)
  in_frame_columns = Unsqueeze (in_frame_x, second)
  in_frame = And (in_frame_rows, in_frame_columns)
  view_cells = ReduceProd <keepdims = 0> (frame)
  view_row = Mul (cell_y, frame_x)
  view_rows = Unsqueeze (view_row, third)
  view_columns = Unsqueeze (cell_x, second)
  view_index = Add (view_rows, view_columns)
  frame_index = Where (in_frame, view_index, view_cells)
  patch_cells = ReduceProd <keepdims = 0> (size)
  count = Shape <start = 0, end = 1> (patch)
  count_scalar = Squeeze (count)
  position = Range (zero, count_scalar, one)
  position_cells = Mul (position, patch_cells)
  patch_base = Add (view_cells, one)
  patch_start = Add (position_cells, patch_base)
  patch_start_column = Unsqueeze (patch_start, second)
  patch_row = Mul (place_y, size_x)
  patch_row_start = Add (patch_row, patch_start_column)
  patch_rows = Unsqueeze (patch_row_start, third)
  patch_columns = Unsqueeze (place_x, second)
  patch_index = Add (patch_rows, patch_columns)
  index = Where (in_patch, patch_index, frame_index)
  view_table = Flatten <axis = 3> (view)
  patch_table = Flatten <axis = 3> (patch)
  channels = Shape <start = 3, end = 4> (view)
  pad_shape = Concat <axis = 0> (second, channels)
  pad = Constant <value_float : float = @pad_value> ()
  pad_row = Expand (pad, pad_shape)
  table = Concat <axis = 0> (view_table, pad_row, patch_table)
  window = Gather <axis = 0> (table, index)
}"""

_WINDOW = (
    """
Window <pad_value> (patch, patch_origin, view, origin, extent) => (window) {"""
    + _CONSTANTS
    + _PLACES
    + _axis("y")
    + _axis("x")
    + _LOOK_UP
)

# The same where cell (i, j) of the result's frame holds what cell (rows[i], columns[j]) does; pad_value where one is
# negative.
_REMAP = (
    """
Remap <pad_value> (patch, patch_origin, view, rows, columns, origin, extent) => (window) {"""
    + _CONSTANTS
    + _PLACES
    + _axis("y", "rows")
    + _axis("x", "columns")
    + _LOOK_UP
)

_OCCLUDE_INPUT = """
OccludeInput (occlusion_origin, occlusion_patch) => (patch) {
  ones = Constant <value_ints = [1, 1, 1]> ()
  last = Transpose <perm = [0, 2, 3, 1]> (occlusion_patch)
  count = Shape <start = 0, end = 1> (occlusion_origin)
  shape = Concat <axis = 0> (count, ones)
  patch = Expand (last, shape)
}"""

_FULL_FRAME_ROWS = """
  zero = Constant <value_int = 0> ()
  frame = Shape <start = 1, end = 3> (view)
  corner = Mul (patch_origin, zero)"""

_FULL_FRAME = (
    """
FullFrame (patch, patch_origin, view) => (full) {"""
    + _FULL_FRAME_ROWS
    + """
  window = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, corner, frame)
  full = Transpose <perm = [0, 3, 1, 2]> (window)
}"""
)

_FULL_FRAME_NHWC = (
    """
FullFrameNHWC (patch, patch_origin, view) => (full) {"""
    + _FULL_FRAME_ROWS
    + """
  full = ai.krypton.Window <pad_value = 0.0> (patch, patch_origin, view, corner, frame)
}"""
)

FUNCTIONS = (
    FunctionText("PlaceRegions", _PLACE_REGIONS),
    FunctionText("Window", _WINDOW),
    FunctionText("Remap", _REMAP),
    FunctionText("OccludeInput", _OCCLUDE_INPUT),
    FunctionText("FullFrame", _FULL_FRAME),
    FunctionText("FullFrameNHWC", _FULL_FRAME_NHWC),
)

# The rows of a function body that turn an output rectangle into the rectangle that a local operator reads.
READ_ROWS = """
  kernel = Constant <value_ints : ints = @kernel_shape> ()
  stride = Constant <value_ints : ints = @strides> ()
  dilation = Constant <value_ints : ints = @dilations> ()
  all_pads = Constant <value_ints : ints = @pads> ()
  read_one = Constant <value_int = 1> ()
  pads_from = Constant <value_ints = [0]> ()
  pads_until = Constant <value_ints = [2]> ()
  pad_begin = Slice (all_pads, pads_from, pads_until)
  stride_origin = Mul (origin, stride)
  read_origin = Sub (stride_origin, pad_begin)
  extent_less = Sub (extent, read_one)
  stride_extent = Mul (extent_less, stride)
  kernel_less = Sub (kernel, read_one)
  reach = Mul (kernel_less, dilation)
  reach_extent = Add (stride_extent, reach)
  read_extent = Add (reach_extent, read_one)"""

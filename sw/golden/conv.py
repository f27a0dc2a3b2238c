"""Golden convolution: NHWC images, int8 or uint8, sums modulo 2^32."""

import numpy as np

from sw.golden.gemm import operand, wrap


def conv2d(x: np.ndarray, w: np.ndarray, *, stride: int = 1, pad: int | tuple[int, int, int, int] = 0,
           x_zero_point: int = 0, w_zero_point: int = 0) -> np.ndarray:
    """Convolution (correlation, as ONNX means it) of images with a kernel.

    `x` is (batch, height, width, channels), `w` is (height, width, channels, outputs); `pad` is one number or (top, left, bottom, right),
    and padding is zero after the zero point has been subtracted. Returns int32 (batch, out_height, out_width, outputs).
    Raises ValueError for other types or shapes, and where no output pixel is left.
    """
    image, kernel = operand("x", x, x_zero_point), operand("w", w, w_zero_point)
    if image.ndim != 4 or kernel.ndim != 4 or image.shape[3] != kernel.shape[2]:
        raise ValueError(f"shapes {image.shape} and {kernel.shape} are not (batch, y, x, channels) and (y, x, channels, outputs)")
    top, left, bottom, right = (pad,) * 4 if isinstance(pad, int) else pad
    if stride < 1 or min(top, left, bottom, right) < 0:
        raise ValueError(f"stride = {stride} must be at least 1, and pad = {pad} at least 0")
    image = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)))
    batch, height, width, _ = image.shape
    kernel_height, kernel_width, _, outputs = kernel.shape
    if kernel_height < 1 or kernel_width < 1 or height < kernel_height or width < kernel_width:
        raise ValueError(f"a kernel of {kernel_height} x {kernel_width} does not fit a padded image of {height} x {width}")
    out_height, out_width = (height - kernel_height) // stride + 1, (width - kernel_width) // stride + 1
    sums = np.zeros((batch, out_height, out_width, outputs))
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            pixels = image[:, ky:ky + stride * out_height:stride, kx:kx + stride * out_width:stride]
            sums += pixels[:, :out_height, :out_width] @ kernel[ky, kx]    # exact: see gemm
    return wrap(sums)

"""All boards by name."""

from boards import icebreaker, orangecrab, tang_nano_9k, ulx3s
from boards.board import Board

BOARDS: dict[str, Board] = {module.BOARD.name: module.BOARD for module in (ulx3s, orangecrab, icebreaker, tang_nano_9k)}

"""Reads a node's stream of blocks with a websocket library that is not ours.

usage: websocket_client.py URL CA CERTIFICATE KEY LAST_HEIGHT

Prints one line a block, `height hash previous transactions`, and ends at LAST_HEIGHT.
"""

import asyncio
import json
import ssl
import sys

import websockets


async def main(url, ca, certificate, key, last_height):
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(certificate, key)
    async with websockets.connect(url, ssl=context, max_size=64 * 2**20) as stream:
        async for frame in stream:
            block = json.loads(frame)
            print(block["height"], block["hash"], block["previous"], len(block.get("content", [])), flush=True)
            if block["height"] >= last_height:
                return


asyncio.run(main(*sys.argv[1:5], int(sys.argv[5])))

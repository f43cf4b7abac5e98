// The codecs that kafkajs leaves to others.

const { CompressionCodecs, CompressionTypes } = require('kafkajs')
const lz4 = require('lz4js')
const snappy = require('snappyjs')
const { ZstdCodec } = require('zstd-codec')

const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])

/** Snappy as snappy-java frames it: a head of 16 bytes, then blocks with their lengths. */
const unframed = buffer => {
  if (!buffer.subarray(0, XERIAL.length).equals(XERIAL)) return snappy.uncompress(buffer)
  const blocks = []
  for (let at = 16; at < buffer.length; ) {
    const length = buffer.readInt32BE(at)
    blocks.push(snappy.uncompress(buffer.subarray(at + 4, at + 4 + length)))
    at += 4 + length
  }
  return Buffer.concat(blocks)
}

const codec = (deflate, inflate) => () => ({
  compress: async encoder => Buffer.from(deflate(encoder.buffer)),
  decompress: async buffer => Buffer.from(inflate(buffer)),
})

/** Makes kafkajs know them; the last of them has to be waited for. */
exports.install = async () => {
  const zstd = await new Promise(done => ZstdCodec.run(loaded => done(new loaded.Simple())))
  CompressionCodecs[CompressionTypes.Snappy] = codec(snappy.compress, unframed)
  CompressionCodecs[CompressionTypes.LZ4] = codec(lz4.compress, lz4.decompress)
  CompressionCodecs[CompressionTypes.ZSTD] = codec(
    bytes => zstd.compress(bytes),
    bytes => zstd.decompress(bytes)
  )
}

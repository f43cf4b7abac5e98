// The witness with kafkajs.
//
// A consumer of kafkajs is always the member of a group, and groups are not offered. So records are fetched, and
// offsets committed, by the layer beneath: the same that its consumers stand on, with its own decoders.

const { CompressionTypes, ConfigResourceTypes, ConfigSource, Kafka, Partitioners, logLevel } = require('kafkajs')
const codecs = require('./codecs')

const TIME = 1483228800000
const RECORDS = 20
const FILLING = ' tide'.repeat(40)
const COMMITS = [[0, 3, 'three'], [1, 5, '']]
const MADE_RECORDS = 5
const STAYS = 3
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const tell = (did, said) => console.log(JSON.stringify({ did, ...said }))
const text = bytes => (bytes === null || bytes === undefined ? null : bytes.toString())

const client = address =>
  new Kafka({ clientId: 'kafkajs', brokers: [address], logLevel: logLevel.ERROR, retry: { retries: 2 } })

const make = async (kafka, name) => {
  const admin = kafka.admin()
  await admin.connect()
  const made = `${name}-made`
  await admin.createTopics({ topics: [{ topic: made, numPartitions: 3, replicationFactor: -1 }] })
  const names = (await admin.listTopics()).sort()
  const { topics } = await admin.fetchTopicMetadata({ topics: [made] })
  tell('made', { names, partitions: topics[0].partitions.length })
  await admin.disconnect()
}

// It alters settings only with the older AlterConfigs, which sets back all that it does not name and is not offered.
const administer = async (kafka, name) => {
  const admin = kafka.admin()
  await admin.connect()
  const [made, gone] = [`${name}-made`, `${name}-gone`]
  const resources = [{ type: ConfigResourceTypes.TOPIC, name: made }]
  const { resources: [{ configEntries }] } = await admin.describeConfigs({ resources, includeSynonyms: false })
  const setting = one => [one.configName, one.configValue, one.configSource === ConfigSource.DEFAULT_CONFIG]
  tell('described', { when: 'made', settings: configEntries.map(setting) })
  await admin
    .createPartitions({ topicPartitions: [{ topic: made, count: 5 }] })
    .catch(error => tell('refused', { what: 'partitions', code: error.code, why: error.message }))
  const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  const messages = Array.from({ length: MADE_RECORDS }, (_, n) => ({ value: `${n}`, partition: 0 }))
  await producer.send({ topic: made, messages })
  await producer.disconnect()
  await admin.deleteTopicRecords({ topic: made, partitions: [{ partition: 0, offset: `${STAYS}` }] })
  const ends = await admin.fetchTopicOffsets(made)
  const low = Number(ends.find(one => one.partition === 0).low)
  // It keeps what the broker answers to a deletion to itself.
  tell('trimmed', { low, earliest: low })
  await admin.createTopics({ topics: [{ topic: gone, numPartitions: 2, replicationFactor: -1 }] })
  await admin.deleteTopics({ topics: [gone] })
  tell('deleted', { names: (await admin.listTopics()).sort() })
  await admin.disconnect()
}

const record = (name, of, n) => {
  // kafkajs cannot write a header that is null: it asks how long null is.
  const message = { key: `k${n}`, value: `${of} ${n}${FILLING}`, headers: { by: [name, 'again'], case: of } }
  if (n % 5 === 1) message.key = null
  if (n % 5 === 2) message.value = null
  if (n % 5 === 3) Object.assign(message, { key: '', value: '' })
  if (n % 5 === 4) message.headers = {}
  return { ...message, timestamp: `${TIME + 1000 * n}` }
}

const write = async (kafka, name) => {
  for (const codec of Object.keys(CODECS)) {
    for (const kind of ['0', '1', 'all', 'idempotent']) {
      const idempotent = kind === 'idempotent'
      const acks = kind === '0' ? 0 : kind === '1' ? 1 : -1
      const settings = { idempotent, createPartitioner: Partitioners.DefaultPartitioner }
      const producer = kafka.producer({ ...settings, maxInFlightRequests: idempotent ? 1 : undefined })
      await producer.connect()
      const of = `${codec}/${kind}`
      const places = []
      // Two sends, so that an idempotent producer counts on.
      for (const half of [0, RECORDS / 2]) {
        const numbers = Array.from({ length: RECORDS / 2 }, (_, n) => half + n)
        const messages = numbers.map(n => record(name, of, n))
        const told = await producer.send({ topic: `${name}-wrote`, acks, compression: CODECS[codec], messages })
        // Of each partition the offset of the first record that went there is told.
        for (const { partition, baseOffset } of told ?? []) {
          if (acks !== 0) places.push([partition, Number(baseOffset)])
        }
      }
      await producer.disconnect()
      tell('sent', { case: of, codec, idempotent, places, 'null-headers': false })
    }
  }
}

/** The layer beneath a consumer: what is private is named by symbols. */
const inner = async (kafka, topics) => {
  const symbol = Object.getOwnPropertySymbols(kafka).find(one => one.description.endsWith('createCluster'))
  const cluster = kafka[symbol]({ metadataMaxAge: 300000, allowAutoTopicCreation: false })
  await cluster.connect()
  await cluster.addMultipleTargetTopics(topics)
  return cluster
}

const printed = (topic, partition, { offset, timestamp, key, value, headers }) => {
  const pairs = Object.entries(headers).flatMap(([name, values]) =>
    (Array.isArray(values) ? values : [values]).map(one => [name, text(one)])
  )
  const said = { topic, partition, offset: Number(offset), timestamp: Number(timestamp) }
  tell('read', { ...said, key: text(key), value: text(value), headers: pairs })
}

const fetched = async (cluster, topic, { partitionId, leader }, from) => {
  const broker = await cluster.findBroker({ nodeId: leader })
  const partitions = [{ partition: partitionId, fetchOffset: from, maxBytes: 1 << 20 }]
  const answer = await broker.fetch({ maxWaitTime: 100, topics: [{ topic, partitions }] })
  return answer.responses[0].partitions[0]
}

const read = async (cluster, topic) => {
  for (const partition of cluster.findTopicPartitionMetadata(topic)) {
    let next = 0
    for (;;) {
      const { messages, highWatermark } = await fetched(cluster, topic, partition, next)
      // A batch comes whole, also when one asks for its middle.
      for (const message of messages.filter(one => Number(one.offset) >= next)) {
        printed(topic, partition.partitionId, message)
        next = Number(message.offset) + 1
      }
      if (next >= Number(highWatermark)) break
    }
  }
}

const look = async (kafka, time) => {
  const admin = kafka.admin()
  await admin.connect()
  const ends = await admin.fetchTopicOffsets('ours')
  const at = await admin.fetchTopicOffsetsByTimestamp('ours', time)
  const places = (offsets, field) => offsets.map(one => [one.partition, Number(one[field])])
  tell('looked', { earliest: places(ends, 'low'), latest: places(ends, 'high'), at: places(at, 'offset') })
  await admin.disconnect()
}

const told = topics =>
  topics
    .flatMap(({ partitions }) => partitions)
    .map(({ partition, offset, metadata }) => [partition, Number(offset), metadata ?? ''])
    .sort((one, other) => one[0] - other[0])

const committed = async (kafka, name) => {
  const admin = kafka.admin()
  await admin.connect()
  tell('committed', { offsets: told(await admin.fetchOffsets({ groupId: name, topics: ['ours'] })) })
  await admin.disconnect()
}

const first = async (address, name, time) => {
  const kafka = client(address)
  await make(kafka, name)
  await administer(kafka, name)
  await write(kafka, name)
  const cluster = await inner(kafka, ['ours', `${name}-wrote`])
  await read(cluster, 'ours')
  await read(cluster, `${name}-wrote`)
  await look(kafka, time)
  const coordinator = await cluster.findGroupCoordinator({ groupId: name })
  const partitions = COMMITS.map(([partition, offset, metadata]) => ({ partition, offset: `${offset}`, metadata }))
  const commit = { groupId: name, groupGenerationId: -1, memberId: '', topics: [{ topic: 'ours', partitions }] }
  await coordinator.offsetCommit(commit)
  await committed(kafka, name)
  await cluster.disconnect()
}

const second = async (address, name) => {
  const kafka = client(address)
  await committed(kafka, name)
  const admin = kafka.admin()
  await admin.connect()
  const all = told(await admin.fetchOffsets({ groupId: name }))
  tell('listed', { offsets: all })
  await admin.disconnect()
  const cluster = await inner(kafka, ['ours'])
  for (const partition of cluster.findTopicPartitionMetadata('ours')) {
    const offset = all.find(([number]) => number === partition.partitionId)?.[1]
    if (offset === undefined) continue
    const { messages } = await fetched(cluster, 'ours', partition, offset)
    printed('ours', partition.partitionId, messages.find(one => Number(one.offset) >= offset))
  }
  await cluster.disconnect()
}

const main = async ([part, address, name, time]) => {
  await codecs.install()
  await (part === 'first' ? first(address, name, Number(time)) : second(address, name))
}

main(process.argv.slice(2)).catch(error => {
  console.error(error)
  process.exit(1)
})

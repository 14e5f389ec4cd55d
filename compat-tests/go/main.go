// franz-go BOOTSTRAP BASE_MS COUNT PREFIX: sends the known records with every acks and codec to topics that do not exist
// yet (PREFIX-codec-acks), and reads them back from the beginning, from the middle and by time.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const patience = 60 * time.Second

func key(i int64) []byte {
	if i%10 == 3 {
		return nil
	}
	return []byte(fmt.Sprintf("key-%d", i))
}

func value(i int64) []byte {
	switch i % 10 {
	case 7:
		return nil
	case 8:
		return []byte{}
	}
	return []byte(fmt.Sprintf("value-%d-%s", i, strings.Repeat("x", int(i%100))))
}

func headers(i int64) []kgo.RecordHeader {
	switch i % 4 {
	case 1:
		return []kgo.RecordHeader{{Key: "h", Value: []byte(strconv.FormatInt(i, 10))}}
	case 2:
		return []kgo.RecordHeader{{Key: "h", Value: []byte(fmt.Sprintf("a%d", i))}, {Key: "h", Value: []byte(fmt.Sprintf("b%d", i))}}
	case 3:
		return []kgo.RecordHeader{{Key: "null"}, {Key: "empty", Value: []byte{}}}
	}
	return nil
}

func require(condition bool, format string, args ...any) {
	if !condition {
		panic(fmt.Sprintf(format, args...))
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// same tells null from empty, which bytes.Equal does not.
func same(a, b []byte) bool {
	return (a == nil) == (b == nil) && bytes.Equal(a, b)
}

func newClient(bootstrap string, options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap))...)
	check(err)
	return client
}

// partitionCount asks for the topic's metadata until it exists; asking creates it.
func partitionCount(ctx context.Context, client *kgo.Client, topic string) int64 {
	request := kmsg.NewPtrMetadataRequest()
	request.AllowAutoTopicCreation = true
	one := kmsg.NewMetadataRequestTopic()
	one.Topic = kmsg.StringPtr(topic)
	request.Topics = append(request.Topics, one)
	for {
		response, err := request.RequestWith(ctx, client)
		check(err)
		if err = kerr.ErrorForCode(response.Topics[0].ErrorCode); err == nil && len(response.Topics[0].Partitions) > 0 {
			return int64(len(response.Topics[0].Partitions))
		}
		require(err == nil || kerr.IsRetriable(err), "metadata of %s: %v", topic, err)
		time.Sleep(20 * time.Millisecond)
	}
}

func produce(ctx context.Context, bootstrap, topic string, codec kgo.CompressionCodec, acks kgo.Acks, baseMs, count int64) {
	options := []kgo.Opt{
		kgo.ProducerBatchCompression(codec),
		kgo.RequiredAcks(acks),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5 * time.Millisecond),
	}
	if acks != kgo.AllISRAcks() {
		options = append(options, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client := newClient(bootstrap, options...)
	defer client.Close()
	partitions := partitionCount(ctx, client, topic)
	// What acks=0 sends before the partitions are there would be lost; this retries until they are.
	listOffsets(ctx, client, topic, partitions, -1)
	failures := make(chan error, count)
	for i := int64(0); i < count; i++ {
		record := &kgo.Record{
			Topic: topic, Partition: int32(i % partitions), Timestamp: time.UnixMilli(baseMs + i),
			Key: key(i), Value: value(i), Headers: headers(i),
		}
		client.Produce(ctx, record, func(r *kgo.Record, err error) {
			if err == nil && acks != kgo.NoAck() && r.Offset != i/partitions {
				err = fmt.Errorf("record %d acknowledged at %d", i, r.Offset)
			}
			failures <- err
		})
	}
	check(client.Flush(ctx))
	for i := int64(0); i < count; i++ {
		check(<-failures)
	}
	// acks=0 may still be under way, and closing the client would lose it.
	for sum(listOffsets(ctx, client, topic, partitions, -1)) < count {
		time.Sleep(20 * time.Millisecond)
	}
}

func sum(offsets []int64) (total int64) {
	for _, offset := range offsets {
		total += offset
	}
	return total
}

// listOffsets answers each partition's offset for a time; -1 means the end, -2 the beginning.
func listOffsets(ctx context.Context, client *kgo.Client, topic string, partitions, timestamp int64) []int64 {
	request := kmsg.NewPtrListOffsetsRequest()
	request.ReplicaID = -1
	one := kmsg.NewListOffsetsRequestTopic()
	one.Topic = topic
	for p := int64(0); p < partitions; p++ {
		partition := kmsg.NewListOffsetsRequestTopicPartition()
		partition.Partition = int32(p)
		partition.Timestamp = timestamp
		one.Partitions = append(one.Partitions, partition)
	}
	request.Topics = append(request.Topics, one)
	offsets := make([]int64, partitions)
	for _, shard := range client.RequestSharded(ctx, request) {
		check(shard.Err)
		for _, partition := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
			check(kerr.ErrorForCode(partition.ErrorCode))
			offsets[partition.Partition] = partition.Offset
		}
	}
	return offsets
}

// read consumes from the given offsets until `limit` records came, and checks each of them.
func read(ctx context.Context, bootstrap, topic string, partitions int64, from map[int32]kgo.Offset, next map[int32]int64, baseMs, limit int64) {
	client := newClient(bootstrap,
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxWait(100*time.Millisecond))
	defer client.Close()
	for seen := int64(0); seen < limit; {
		fetches := client.PollFetches(ctx)
		check(fetches.Err0())
		fetches.EachError(func(_ string, p int32, err error) { panic(fmt.Sprintf("partition %d: %v", p, err)) })
		fetches.EachRecord(func(r *kgo.Record) {
			offset := next[r.Partition]
			i := int64(r.Partition) + offset*partitions
			require(r.Offset == offset, "%s record %d: offset %d, expected %d", topic, i, r.Offset, offset)
			require(same(r.Key, key(i)), "%s record %d: key %q", topic, i, r.Key)
			require(same(r.Value, value(i)), "%s record %d: value %q", topic, i, r.Value)
			require(r.Timestamp.UnixMilli() == baseMs+i, "%s record %d: timestamp %v", topic, i, r.Timestamp)
			expected := headers(i)
			require(len(r.Headers) == len(expected), "%s record %d: headers %v", topic, i, r.Headers)
			for n, header := range r.Headers {
				equal := header.Key == expected[n].Key && same(header.Value, expected[n].Value)
				require(equal, "%s record %d: headers %v", topic, i, r.Headers)
			}
			next[r.Partition]++
			seen++
		})
	}
}

func verify(ctx context.Context, bootstrap, topic string, baseMs, count int64) {
	client := newClient(bootstrap)
	defer client.Close()
	partitions := partitionCount(ctx, client, topic)
	ends := listOffsets(ctx, client, topic, partitions, -1)
	require(sum(ends) == count, "%s ends at %v", topic, ends)
	require(sum(listOffsets(ctx, client, topic, partitions, -2)) == 0, "%s does not begin at 0", topic)

	start, next := map[int32]kgo.Offset{}, map[int32]int64{}
	for p := int32(0); p < int32(partitions); p++ {
		start[p] = kgo.NewOffset().AtStart()
	}
	read(ctx, bootstrap, topic, partitions, start, next, baseMs, count)

	expectAt := func(p int32, offset int64) {
		from := map[int32]kgo.Offset{p: kgo.NewOffset().At(offset)}
		read(ctx, bootstrap, topic, partitions, from, map[int32]int64{p: offset}, baseMs, 1)
	}
	for p, end := range ends {
		expectAt(int32(p), end/2+1)
		expectAt(int32(p), end-1)
	}
	for _, i := range []int64{0, count/2 + 1, count - partitions} {
		for p, offset := range listOffsets(ctx, client, topic, partitions, baseMs+i) {
			expected := (i + partitions - 1 - int64(p)) / partitions
			require(offset == expected, "%s-%d at the time of record %d: %d, expected %d", topic, p, i, offset, expected)
			expectAt(int32(p), offset)
		}
	}
	for p, offset := range listOffsets(ctx, client, topic, partitions, baseMs+count) {
		require(offset == -1, "%s-%d: offset %d after the last record", topic, p, offset)
	}
}

func main() {
	switch os.Args[1] {
	case "groups":
		groups(os.Args[2:])
		return
	case "transactions":
		transactions(os.Args[2:])
		return
	}
	bootstrap, prefix := os.Args[1], os.Args[4]
	baseMs, err := strconv.ParseInt(os.Args[2], 10, 64)
	check(err)
	count, err := strconv.ParseInt(os.Args[3], 10, 64)
	check(err)
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for codecName, codec := range codecs {
		for acksName, acks := range acks {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			topic := prefix + "-" + codecName + "-" + acksName
			produce(ctx, bootstrap, topic, codec, acks, baseMs, count)
			verify(ctx, bootstrap, topic, baseMs, count)
			cancel()
		}
	}
}

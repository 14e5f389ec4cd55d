// franz-go groups BOOTSTRAP TOPIC COUNT GROUP PARTITIONS [server]: two members share a topic, one leaves, the other takes
// over and reads to the end; what is committed stays. With `server` it is the broker that assigns (KIP-848).
package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type member struct {
	client   *kgo.Client
	assigned atomic.Int64
	done     chan struct{}
}

func (m *member) add(partitions map[string][]int32, sign int64) {
	for _, of := range partitions {
		m.assigned.Add(sign * int64(len(of)))
	}
}

func groups(arguments []string) {
	bootstrap, topic, group := arguments[0], arguments[1], arguments[3]
	count, err := strconv.Atoi(arguments[2])
	check(err)
	partitions, err := strconv.ParseInt(arguments[4], 10, 64)
	check(err)
	var balancing []kgo.Opt
	if len(arguments) > 5 && arguments[5] == "server" {
		balancing = []kgo.Opt{kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer())}
	}
	var seen sync.Map
	var records atomic.Int64

	join := func() *member {
		m := &member{done: make(chan struct{})}
		lost := func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { m.add(gone, -1) }
		m.client, err = kgo.NewClient(append([]kgo.Opt{
			kgo.SeedBrokers(bootstrap), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) { m.add(got, 1) }),
			kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
			kgo.AutoCommitInterval(100 * time.Millisecond),
		}, balancing...)...)
		check(err)
		go func() {
			defer close(m.done)
			for {
				fetches := m.client.PollFetches(context.Background())
				if fetches.IsClientClosed() {
					return
				}
				fetches.EachRecord(func(record *kgo.Record) {
					if _, known := seen.LoadOrStore(fmt.Sprint(record.Partition, record.Offset), true); !known {
						records.Add(1)
					}
				})
			}
		}()
		return m
	}
	await := func(what string, condition func() bool) {
		deadline := time.Now().Add(patience)
		for !condition() {
			require(time.Now().Before(deadline), "%s: %d records", what, records.Load())
			time.Sleep(20 * time.Millisecond)
		}
	}
	leave := func(m *member) {
		check(m.client.CommitUncommittedOffsets(context.Background()))
		m.client.Close()
		<-m.done
	}

	first := join()
	await("all partitions", func() bool { return first.assigned.Load() == partitions })
	second := join()
	await("halves", func() bool {
		return first.assigned.Load() == partitions/2 && second.assigned.Load() == partitions/2
	})
	await("all records", func() bool { return records.Load() == int64(count) })
	leave(second)
	await("all partitions again", func() bool { return first.assigned.Load() == partitions })
	leave(first)
}

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transactions BOOTSTRAP TOPIC: commits and aborts, and moves what was committed to TOPIC-out in transactions that contain
// the offsets.
func transactions(args []string) {
	bootstrap, topic := args[0], args[1]
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	expected := commitAndAbort(ctx, bootstrap, topic)
	move(ctx, bootstrap, topic, len(expected))
	for _, from := range []string{topic, topic + "-out"} {
		values := readCommitted(ctx, bootstrap, from, len(expected))
		require(len(values) == len(expected), "%s: %d values, expected %d", from, len(values), len(expected))
		for value := range expected {
			require(values[value] == 1, "%s: %s came %d times", from, value, values[value])
		}
	}
}

func commitAndAbort(ctx context.Context, bootstrap, topic string) map[string]bool {
	client := newClient(bootstrap,
		kgo.TransactionalID("go-"+topic), kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())
	defer client.Close()
	expected := map[string]bool{}
	for round := 0; round < 9; round++ {
		check(client.BeginTransaction())
		failures := make(chan error, 50)
		for i := 0; i < 50; i++ {
			value := fmt.Sprintf("%d-%d", round, i)
			client.Produce(ctx, kgo.StringRecord(value), func(_ *kgo.Record, err error) { failures <- err })
			if round%3 != 1 {
				expected[value] = true
			}
		}
		check(client.Flush(ctx))
		for i := 0; i < 50; i++ {
			check(<-failures)
		}
		check(client.EndTransaction(ctx, kgo.TransactionEndTry(round%3 != 1)))
	}
	return expected
}

func move(ctx context.Context, bootstrap, topic string, count int) {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap),
		kgo.TransactionalID("go-move-"+topic),
		kgo.ConsumerGroup("go-"+topic),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.RequireStableFetchOffsets(),
		kgo.DefaultProduceTopic(topic+"-out"),
		kgo.AllowAutoTopicCreation(),
	)
	check(err)
	defer session.Close()
	for moved := 0; moved < count; {
		fetches := session.PollRecords(ctx, 20)
		check(fetches.Err())
		check(session.Begin())
		tried := 0
		fetches.EachRecord(func(r *kgo.Record) {
			session.Produce(ctx, &kgo.Record{Value: r.Value}, nil)
			tried++
		})
		committed, err := session.End(ctx, kgo.TryCommit)
		check(err)
		if committed {
			moved += tried
		}
	}
}

// readCommitted counts values: until `count` came, and a little longer for what must not come.
func readCommitted(ctx context.Context, bootstrap, topic string, count int) map[string]int {
	client := newClient(bootstrap,
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer client.Close()
	values := map[string]int{}
	poll := func(ctx context.Context) {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) { values[string(r.Value)]++ })
	}
	for len(values) < count {
		require(ctx.Err() == nil, "%s: only %d of %d values", topic, len(values), count)
		poll(ctx)
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	poll(short)
	return values
}

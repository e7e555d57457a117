package kafka

import (
	"cmp"
	"errors"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// failed books an attempt that failed, and gives the batch up if another is no use.
func (p *producer) failed(target *target, err error) {
	b := target.batch
	b.tries++
	var code sarama.KError
	final := b.tries > p.retries || time.Since(b.since) > sendTimeout || p.stopped()
	if errors.As(err, &code) {
		switch code {
		case sarama.ErrOutOfOrderSequenceNumber, sarama.ErrUnknownProducerID, sarama.ErrInvalidProducerEpoch,
			sarama.ErrInvalidProducerIDMapping:
			// The cluster does not know any more what it has of this producer. What may be there already goes again under
			// another one: a duplicate is better than a loss.
			p.logger.Warn("kafka: the cluster forgot what it has of a producer; what is sent may be there twice",
				"topic", target.topic, "partition", target.number, "error", err)
			p.forget(target)
		default:
			final = final || !passing(code)
		}
	}
	if final {
		// The batch's numbers may be used up, and what comes next under them would be dropped as a duplicate.
		p.forget(target)
		target.gaveUp(classify("send to "+target.topic, err))
	}
}

// forget has the partition take a new producer, which it never had before.
func (p *producer) forget(target *target) {
	if target.producer == p.current {
		p.current = nobody
	}
	target.producer = nobody
}

// passing tells whether an answer may be another one soon.
func passing(code sarama.KError) bool {
	switch code {
	case sarama.ErrUnknownTopicOrPartition, sarama.ErrNotLeaderForPartition, sarama.ErrLeaderNotAvailable,
		sarama.ErrRequestTimedOut, sarama.ErrBrokerNotAvailable, sarama.ErrReplicaNotAvailable, sarama.ErrNetworkException,
		sarama.ErrNotEnoughReplicas, sarama.ErrNotEnoughReplicasAfterAppend, sarama.ErrKafkaStorageError,
		sarama.ErrFencedLeaderEpoch, sarama.ErrUnknownLeaderEpoch,
		sarama.ErrOffsetsLoadInProgress, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrNotCoordinatorForConsumer,
		sarama.ErrConcurrentTransactions:
		return true
	default:
		return false
	}
}

func (p *producer) recoverLater(targets []*target) {
	if len(targets) > 0 {
		p.work.Go(func() { p.recover(targets) })
	}
}

// recover waits, asks who leads the partitions now, and brings them back into lines.
func (p *producer) recover(targets []*target) {
	p.mu.Lock()
	tries := 1
	topics := map[string]error{}
	for _, target := range targets {
		if target.batch != nil {
			tries = max(tries, target.batch.tries)
		}
		topics[target.topic] = nil
	}
	p.mu.Unlock()
	timer := time.NewTimer(min(p.backoff<<min(tries-1, 10), max(maxBackoff, p.backoff)))
	defer timer.Stop()
	select {
	case <-timer.C:
		for topic := range topics {
			// What else fails will fail again where it is sent.
			if err := p.client.RefreshMetadata(topic); errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
				topics[topic] = classify("send to "+topic, err)
			}
		}
	case <-p.stop:
	}
	var left []*target
	p.mu.Lock()
	for _, target := range targets {
		err := topics[target.topic]
		if p.stopped() {
			err = cmp.Or[error](err, fault.Unavailablef("send to %s: the publisher is closed", target.topic))
		}
		if err != nil {
			p.forget(target)
			target.gone(err)
		}
		if target.batch == nil && len(target.queue) == 0 {
			target.busy = false
		} else {
			left = append(left, target)
		}
	}
	p.mu.Unlock()
	p.route(left)
}

func (p *producer) stopped() bool {
	select {
	case <-p.stop:
		return true
	default:
		return false
	}
}

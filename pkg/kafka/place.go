package kafka

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/IBM/sarama"
)

// place chooses partitions, or says why there is none. An unknown topic is asked for once a call.
func (p *producer) place(c *call) ([]int32, []error) {
	type topic struct {
		all, writable []int32
		err           error
	}
	places, errs, topics := make([]int32, len(c.entries)), make([]error, len(c.entries)), map[string]*topic{}
	var keyed sarama.ProducerMessage
	for i := range c.entries {
		e := &c.entries[i]
		t := topics[e.topic]
		if t == nil {
			t = &topic{}
			t.all, t.err = p.partitions(e.topic)
			topics[e.topic] = t
		}
		switch {
		case t.err != nil:
			errs[i] = classify("send to "+e.topic, t.err)
		case e.record.Key == nil:
			if t.writable == nil {
				// Where none has a leader, one as good as the other is waited for.
				if t.writable, _ = p.client.WritablePartitions(e.topic); len(t.writable) == 0 {
					t.writable = t.all
				}
			}
			places[i] = t.writable[rand.IntN(len(t.writable))]
		default:
			keyed.Key = sarama.ByteEncoder(e.record.Key)
			n, err := p.keys.Partition(&keyed, int32(len(t.all)))
			if err != nil {
				errs[i] = classify("send to "+e.topic, err)
				continue
			}
			places[i] = t.all[n]
		}
	}
	return places, errs
}

// partitions are a topic's, whether or not they have leaders. One that was just made may have none for a moment.
func (p *producer) partitions(topic string) ([]int32, error) {
	for try := 0; ; try++ {
		all, err := p.client.Partitions(topic)
		if err == nil && len(all) == 0 {
			err = sarama.ErrLeaderNotAvailable
		}
		if try >= max(p.retries, 1) || !errors.Is(err, sarama.ErrLeaderNotAvailable) {
			return all, err
		}
		if try == 0 {
			continue // it may have been learnt by asking
		}
		select {
		case <-time.After(p.backoff):
		case <-p.stop:
			return nil, err
		}
	}
}

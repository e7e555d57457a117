package kafka

import (
	"math/rand/v2"

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
			if t.all, t.err = p.client.Partitions(e.topic); t.err == nil {
				t.writable, t.err = p.client.WritablePartitions(e.topic)
			}
			if t.err == nil && len(t.all) == 0 {
				t.err = sarama.ErrLeaderNotAvailable
			}
			topics[e.topic] = t
		}
		switch {
		case t.err != nil:
			errs[i] = classify("send to "+e.topic, t.err)
		case e.record.Key == nil && len(t.writable) > 0:
			places[i] = t.writable[rand.IntN(len(t.writable))]
		case e.record.Key == nil:
			places[i] = t.all[rand.IntN(len(t.all))]
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

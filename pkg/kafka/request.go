package kafka

import (
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// produce sends one request and waits for the answer. After an error the connection is closed: an answer that comes
// late must not be taken for another's.
func (p *producer) produce(leader int32, targets []*target) (*sarama.ProduceResponse, error) {
	broker, err := p.client.Broker(leader) // and connects again
	if err != nil {
		return nil, fmt.Errorf("broker %d: %w", leader, err)
	}
	if err := p.identify(broker, targets); err != nil {
		return nil, errors.Join(err, closed(broker))
	}
	request := &sarama.ProduceRequest{Version: 8, RequiredAcks: p.acks, Timeout: int32(ackTimeout.Milliseconds())}
	for _, target := range targets {
		request.AddBatch(target.topic, target.number, target.batch.records)
	}
	type answer struct {
		response *sarama.ProduceResponse
		err      error
	}
	answered := make(chan answer, 1)
	err = broker.AsyncProduce(request, func(response *sarama.ProduceResponse, err error) { answered <- answer{response, err} })
	if err != nil {
		return nil, errors.Join(err, closed(broker))
	}
	a := <-answered
	if a.err != nil {
		return nil, errors.Join(a.err, closed(broker))
	}
	return a.response, nil
}

// closed closes the connection to a broker.
func closed(broker *sarama.Broker) error {
	if err := broker.Close(); err != nil && !errors.Is(err, sarama.ErrNotConnected) {
		return fmt.Errorf("close the connection: %w", err)
	}
	return nil
}

// identify numbers the batches. Where one has no producer, the broker is asked for a new one.
func (p *producer) identify(broker *sarama.Broker, targets []*target) error {
	p.mu.Lock()
	current := p.current
	p.mu.Unlock()
	for _, target := range targets {
		if p.idempotent && target.producer == nobody && current == nobody {
			response, err := broker.InitProducerID(&sarama.InitProducerIDRequest{Version: 1})
			if err == nil && !errors.Is(response.Err, sarama.ErrNoError) {
				err = response.Err
			}
			if err != nil {
				return fmt.Errorf("ask for a producer id: %w", err)
			}
			current = identity{response.ProducerID, response.ProducerEpoch}
			p.mu.Lock()
			p.current = current
			p.mu.Unlock()
		}
		target.identify(current)
	}
	return nil
}

// settle books the answer to a request. It returns the partitions that have to recover.
func (p *producer) settle(l *leader, targets []*target, response *sarama.ProduceResponse, err error) (failed []*target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, target := range targets {
		outcome := err
		if outcome == nil {
			if block := response.GetBlock(target.topic, target.number); block == nil {
				outcome = sarama.ErrIncompleteResponse
			} else if !errors.Is(block.Err, sarama.ErrNoError) {
				outcome = block.Err
			}
		}
		switch refused := classify("send to "+target.topic, outcome); {
		case outcome == nil, errors.Is(outcome, sarama.ErrDuplicateSequenceNumber):
			target.taken()
		case fault.KindOf(refused) == fault.Permanent:
			if target.batch.tries > 0 { // an earlier attempt may be in the log
				p.forget(target)
			}
			target.refused(refused)
		default:
			p.failed(target, outcome)
			failed = append(failed, target)
			continue
		}
		if len(target.queue) == 0 {
			target.busy = false
		} else {
			l.ready = append(l.ready, target)
		}
	}
	return failed
}

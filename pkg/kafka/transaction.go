package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// partition transforms one input partition in one generation of the group.
type partition struct {
	*transforming
	session   sarama.ConsumerGroupSession
	topic     string
	partition int32

	client   sarama.Client
	producer sarama.SyncProducer
	// disconnect closes client, once: sarama's Close panics when it is called twice at a time.
	disconnect func() error
}

// run transforms what comes over work, for which it asks through idle, until work is closed or something fails that
// ends the session.
func (p *partition) run(work <-chan []*sarama.ConsumerMessage, idle chan<- struct{}) error {
	ctx := p.session.Context()
	err := p.transformAll(ctx, work, idle)
	if err == nil || ctx.Err() != nil {
		return nil // what failed because the session ended is tried again in the next one
	}
	err = fmt.Errorf("transform %s/%d: %w", p.topic, p.partition, err)
	if fault.KindOf(err) == fault.Permanent {
		p.fail(err)
		return err
	}
	p.logger.Warn("not transformed, trying again from the committed offset", "error", err)
	wait(ctx, transformPause)
	return err
}

func (p *partition) transformAll(ctx context.Context, work <-chan []*sarama.ConsumerMessage, idle chan<- struct{}) (err error) {
	defer func() { err = errors.Join(err, p.close()) }()
	// Opening aborts what the partition's last owner left open, if it was killed: its id is the same.
	if err := p.open(); err != nil {
		return err
	}
	for {
		select {
		case idle <- struct{}{}:
		case <-work: // closed: nothing comes over it unasked
			return nil
		}
		batch, ok := <-work
		if !ok {
			return nil
		}
		out, err := p.call(ctx, batch)
		if err != nil {
			return err
		}
		if err := p.commit(out, batch[len(batch)-1].Offset+1); err != nil {
			return err
		}
	}
}

// call asks fn until it answers, ends Run, or the session ends.
func (p *partition) call(ctx context.Context, batch []*sarama.ConsumerMessage) ([]*sarama.ProducerMessage, error) {
	for {
		in := make([]Record, len(batch))
		for i, r := range batch {
			in[i] = received(r)
		}
		out, err := p.fn(ctx, in)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			return messages(out)
		}
		err = fmt.Errorf("offsets %d to %d: %w", batch[0].Offset, batch[len(batch)-1].Offset, err)
		if fault.KindOf(err) == fault.Permanent {
			return nil, err
		}
		p.logger.Warn("not transformed, trying again", "topic", p.topic, "partition", p.partition, "error", err)
		wait(ctx, transformPause)
	}
}

func messages(out []Record) ([]*sarama.ProducerMessage, error) {
	all := make([]*sarama.ProducerMessage, len(out))
	for i, r := range out {
		if r.Topic == "" {
			return nil, fault.Permanentf("record %d of %d to send has no topic", i+1, len(out))
		}
		all[i] = r.message()
	}
	return all, nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// open connects the partition's producer. Whoever had its id before can send and commit nothing more.
func (p *partition) open() (err error) {
	id := p.cfg.Group + "/" + p.topic + "/" + strconv.Itoa(int(p.partition))
	if p.client, err = sarama.NewClient(p.cfg.Brokers, p.cfg.producer(id)); err != nil {
		return classify("connect to Kafka", err)
	}
	p.disconnect = sync.OnceValue(p.client.Close)
	defer p.bound()()
	p.producer, err = sarama.NewSyncProducerFromClient(p.client)
	return classify("open the transactional producer "+id, err)
}

// bound ends what sarama is at after TransactionTimeout: its calls take no context, and fail once the client is closed.
// By then the cluster has given the transaction up too.
func (p *partition) bound() (done func()) {
	timer := time.AfterFunc(p.cfg.TransactionTimeout, func() { _ = p.disconnect() })
	return func() { timer.Stop() }
}

// commit sends out and notes that the partition was read up to next, in one transaction.
func (p *partition) commit(out []*sarama.ProducerMessage, next int64) error {
	defer p.bound()()
	if err := p.producer.BeginTxn(); err != nil {
		return classify("begin a transaction", err)
	}
	if err := p.send(out); err != nil {
		return err
	}
	offsets := map[string][]*sarama.PartitionOffsetMetadata{p.topic: {{Partition: p.partition, Offset: next}}}
	var instance *string
	if p.cfg.InstanceID != "" {
		instance = &p.cfg.InstanceID
	}
	member := sarama.NewConsumerGroupMetadataFromSession(p.session, p.cfg.Group, instance)
	if err := p.producer.AddOffsetsToTxnWithGroupMetadata(offsets, member); err != nil {
		return classify("add offsets to the transaction", err)
	}
	// An error leaves open whether it was committed. The committed offset will tell.
	return classify("commit the transaction", p.producer.CommitTxn())
}

func (p *partition) send(out []*sarama.ProducerMessage) error {
	if len(out) == 0 {
		return nil
	}
	err := p.producer.SendMessages(out)
	var failed sarama.ProducerErrors
	if !errors.As(err, &failed) {
		return classify("send", err)
	}
	// The first failure makes sarama refuse what follows; one that can never be sent is the reason to tell.
	for _, f := range failed {
		if err := classify("send to "+f.Msg.Topic, f.Err); fault.KindOf(err) == fault.Permanent {
			return err
		}
	}
	return classify("send to "+failed[0].Msg.Topic, failed[0].Err)
}

// close aborts the transaction that is open, if one is, so that no reader waits for its end, and disconnects.
func (p *partition) close() error {
	if p.disconnect == nil {
		return nil
	}
	var err error
	if p.producer != nil {
		defer p.bound()()
		const open = sarama.ProducerTxnFlagInTransaction | sarama.ProducerTxnFlagEndTransaction | sarama.ProducerTxnFlagAbortableError
		if p.producer.TxnStatus()&open != 0 {
			// If it fails, the next owner or TransactionTimeout does it.
			if err := p.producer.AbortTxn(); err != nil {
				p.logger.Warn("the transaction was not aborted", "topic", p.topic, "partition", p.partition, "error", err)
			}
		}
		err = p.producer.Close()
	}
	return classify("close the transactional producer", errors.Join(err, p.disconnect()))
}

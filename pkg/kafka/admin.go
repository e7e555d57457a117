package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// adminTimeout bounds each question to the cluster, whatever the caller's context says.
const adminTimeout = 10 * time.Second

// Admin asks the cluster and creates topics. It keeps its connections, made at the first question, until an answer
// does not come in time.
type Admin struct {
	cfg Config

	// connecting is held while connecting, which takes its time; mu never is.
	connecting sync.Mutex
	client     sarama.Client
	admin      sarama.ClusterAdmin

	mu     sync.Mutex
	closed bool
	// probe is the Reachable under way, shared by all who ask meanwhile.
	probe *probe
	calls sync.WaitGroup
}

type probe struct {
	done chan struct{}
	err  error
}

// NewAdmin checks cfg and returns an Admin that connects when it is first used.
func NewAdmin(cfg Config) (*Admin, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka admin: %w", err)
	}
	return &Admin{cfg: cfg}, nil
}

// Reachable returns nil if the cluster answers before ctx ends. Callers at the same time share one question.
func (a *Admin) Reachable(ctx context.Context) error {
	a.mu.Lock()
	p := a.probe
	if p == nil {
		p = &probe{done: make(chan struct{})}
		a.probe = p
		go func() {
			p.err = a.do(context.Background(), "reach Kafka", func(client sarama.Client, _ sarama.ClusterAdmin) error {
				return client.RefreshMetadata()
			})
			a.mu.Lock()
			a.probe = nil
			a.mu.Unlock()
			close(p.done)
		}()
	}
	a.mu.Unlock()
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return fault.Unavailablef("reach Kafka: no answer yet: %w", ctx.Err())
	}
}

// do runs ask with a connection and stops waiting when ctx ends; sarama's calls take no context.
func (a *Admin) do(ctx context.Context, operation string, ask func(sarama.Client, sarama.ClusterAdmin) error) error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return fault.Unavailablef("%s: the admin client is closed", operation)
	}
	a.calls.Add(1)
	a.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		defer a.calls.Done()
		client, admin, err := a.connect()
		if err == nil {
			if err = ask(client, admin); timedOut(err) {
				err = errors.Join(err, a.hangUp(client))
			}
		}
		result <- err
	}()
	select {
	case err := <-result:
		return classify(operation, err)
	case <-ctx.Done():
		return fault.Unavailablef("%s: %w", operation, ctx.Err())
	}
}

// answer is do for a question with an answer. The answer travels by return: when ctx ends first, ask goes on in the
// background and must write to nothing of the caller's.
func answer[T any](ctx context.Context, a *Admin, operation string, ask func(sarama.Client, sarama.ClusterAdmin) (T, error)) (T, error) {
	answers := make(chan T, 1)
	err := a.do(ctx, operation, func(client sarama.Client, admin sarama.ClusterAdmin) error {
		value, err := ask(client, admin)
		answers <- value
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return <-answers, nil
}

func (a *Admin) connect() (sarama.Client, sarama.ClusterAdmin, error) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if a.admin != nil {
		return a.client, a.admin, nil
	}
	s := a.cfg.Sarama()
	// Whoever asks wants to know now.
	s.Metadata.Retry.Max = 0
	s.Metadata.Timeout = 3 * time.Second
	s.Net.ReadTimeout = 5 * time.Second
	client, err := sarama.NewClient(a.cfg.Brokers, s)
	if err != nil {
		return nil, nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	if err != nil {
		return nil, nil, errors.Join(err, client.Close())
	}
	a.client, a.admin = client, admin
	return client, admin, nil
}

// timedOut tells whether an answer did not come in time. sarama keeps such a connection, and has the same error for every
// question on it from then on.
func timedOut(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// hangUp has the next question connect anew. Questions that others have under way on the connection fail with it.
func (a *Admin) hangUp(client sarama.Client) error {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if a.client != client {
		return nil // somebody has done so
	}
	err := a.admin.Close() // closes the client too
	a.client, a.admin = nil, nil
	return err
}

// Close disconnects after the questions under way, which are bounded.
func (a *Admin) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	a.calls.Wait()
	if a.admin == nil {
		return nil
	}
	return classify("close the Kafka admin client", a.admin.Close()) // closes the client too
}

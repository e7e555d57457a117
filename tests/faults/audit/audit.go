package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/testkit/evidence"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// Sources are where the evidence is.
type Sources struct {
	System   *client.System
	Brokers  []string
	RedisURL string
	// Databases are the services' DATABASE_URL by service.
	Databases map[string]string
	// Ledger and Parcels, if set, read the books of a payment provider and of a carrier behind HTTP. Those of the sandboxes are
	// in the databases of their services.
	Ledger  func(ctx context.Context) ([]Charge, error)
	Parcels func(ctx context.Context) ([]Parcel, error)
}

// Placed is what whoever placed orders knows of one POST /v1/orders.
type Placed struct {
	// Key is its Idempotency-Key, which several may have.
	Key string
	// Status is the answer's, 0 when none came.
	Status int
	// OrderID is of the order that a 202 named.
	OrderID  string
	Customer string
	// RequestID is the X-Request-Id that was sent, if any.
	RequestID string
}

// Options are what the audit overlooks.
type Options struct {
	// Books are those of package books: which dead letters may lie where they are.
	Books books.Options
	// Foreign tells of a record that the test itself put onto a topic and that is not one of the system's own sent again.
	Foreign func(evidence.Record) bool
	// Ambiguous are answers, beside none, that leave open whether the order was placed: 503 say, when the answers of the
	// database were lost.
	Ambiguous []int
	// RedisLost says that Redis lost what it had: feeds may lack notifications. Those that they hold must be right.
	RedisLost bool
}

func (o Options) foreign(r evidence.Record) bool { return o.Foreign != nil && o.Foreign(r) }

// pause is how long Settle lets the system work between two looks.
const pause = 200 * time.Millisecond

// Settle audits until everything holds or ctx ends, for listeners follow by a moment. Placed are all POSTs that were ever
// sent. The error is about reading; what was found is in the audit.
func Settle(ctx context.Context, s Sources, placed []Placed, o Options) (audit books.Audit, err error) {
	r, err := open(ctx, s)
	if err != nil {
		return books.Audit{}, fmt.Errorf("audit: %w", err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	read := false
	for {
		e, err := r.gather(ctx, placed, o)
		if err == nil {
			audit, read = Judge(e, o), true
			if audit.OK {
				return audit, nil
			}
		}
		select {
		case <-ctx.Done():
			if read {
				return audit, nil
			}
			return books.Audit{}, fmt.Errorf("audit: %w: %w", context.Cause(ctx), err)
		case <-time.After(pause):
		}
	}
}

// Check audits once.
func Check(ctx context.Context, s Sources, placed []Placed, o Options) (audit books.Audit, err error) {
	r, err := open(ctx, s)
	if err != nil {
		return books.Audit{}, fmt.Errorf("audit: %w", err)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	e, err := r.gather(ctx, placed, o)
	if err != nil {
		return books.Audit{}, fmt.Errorf("audit: %w", err)
	}
	return Judge(e, o), nil
}

// reader has what evidence is read through.
type reader struct {
	Sources
	dbs    map[string]*database.DB
	redis  *redis.Client
	admin  *kafka.Admin
	topics *evidence.Reader
}

func open(ctx context.Context, s Sources) (_ *reader, err error) {
	r := &reader{Sources: s, dbs: map[string]*database.DB{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	for _, service := range client.Services() {
		url := s.Databases[service]
		// A file that is not there would be made.
		if path, is := strings.CutPrefix(url, "sqlite:"); is {
			if _, err := os.Stat(path); err != nil {
				return nil, fmt.Errorf("database of %s: %w", service, err)
			}
		}
		if r.dbs[service], err = database.Open(ctx, url); err != nil {
			return nil, fmt.Errorf("database of %s: %w", service, err)
		}
	}
	options, err := redis.ParseURL(s.RedisURL)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	r.redis = redis.NewClient(options)
	cfg := kafka.Config{Brokers: s.Brokers, ClientID: "orderflow-audit"}
	if r.admin, err = kafka.NewAdmin(cfg); err != nil {
		return nil, err
	}
	r.topics, err = evidence.NewReader(cfg, messageTopics()...)
	return r, err
}

func (r *reader) close() error {
	var errs []error
	for _, db := range r.dbs {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if r.redis != nil {
		errs = append(errs, r.redis.Close())
	}
	if r.admin != nil {
		errs = append(errs, r.admin.Close())
	}
	if r.topics != nil {
		errs = append(errs, r.topics.Close())
	}
	return errors.Join(errs...)
}

// messageTopics are those of events and commands.
func messageTopics() (names []string) {
	for _, t := range events.Topics() {
		if t.Kind == events.KindEvent || t.Kind == events.KindCommand {
			names = append(names, t.Name)
		}
	}
	return names
}

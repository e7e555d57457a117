package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

// Bounds of what is waited for.
const (
	// quietTimeout is for consumer groups to catch up, booksTimeout for the books to balance after that.
	quietTimeout, booksTimeout = 3 * time.Minute, 5 * time.Minute
	// quietInterval is how often the lag is asked for.
	quietInterval = 500 * time.Millisecond
	// stocked is how much of every product is taken in: enough if all orders were of it.
	stocked = maxOrders
)

// ours is a whole Orderflow.
type ours struct {
	cfg    Config
	stack  *stack.Stack
	system *client.System
	admin  *kafka.Admin
}

// measureOurs puts the loads on the stack's services.
func measureOurs(ctx context.Context, cfg Config, running *stack.Stack, report *Report) (err error) {
	// In this order at the end; each also when the one before failed.
	var closers []func(context.Context) error
	defer func() {
		for _, closer := range slices.Backward(closers) {
			err = errors.Join(err, closer(context.WithoutCancel(ctx)))
		}
	}()
	o := &ours{cfg: cfg, stack: running}
	addresses := client.Addresses{URLs: map[string]string{}, Brokers: running.Brokers(), RedisURL: running.RedisURL()}
	for _, service := range client.Services() {
		addresses.URLs[service] = running.URL(service)
	}
	if o.system, err = client.New(addresses); err != nil {
		return err
	}
	closers = append(closers, func(context.Context) error { o.system.Close(); return nil })
	if o.admin, err = kafka.NewAdmin(kafka.Config{Brokers: addresses.Brokers, ClientID: "orderflow-bench"}); err != nil {
		return err
	}
	closers = append(closers, func(context.Context) error { return o.admin.Close() })
	meter, err := meterOf(ctx, running)
	if err != nil {
		return err
	}
	closers = append(closers, meter.close)
	shop, closeShop, err := newShop(addresses.URLs["order"], cfg.Seed)
	if err != nil {
		return err
	}
	closers = append(closers, func(context.Context) error { closeShop(); return nil })
	ends, err := followEnds(addresses.Brokers, shop.ends)
	if err != nil {
		return err
	}
	closers = append(closers, func(context.Context) error { return ends.close() })
	if shop.skus, err = o.restock(ctx); err != nil {
		return err
	}
	shop.still = o.still
	subject := &subject{shop: shop, meter: meter, quiet: o.quiet, books: o.books, died: o.died}
	if err := subject.breakIn(ctx, cfg); err != nil {
		return err
	}
	return subject.measure(ctx, cfg, cfg.Loads, report)
}

// listeners are the services that no saga waits for.
var listeners = []string{"notification", "analytics"}

// allBut are the other services.
func allBut(service string) []string {
	return slices.DeleteFunc(client.Services(), func(s string) bool { return s == service })
}

// still is the shop's.
func (o *ours) still(services []string, during func() error) error {
	if len(services) == 0 {
		return during()
	}
	resume, err := o.stack.Suspend(services[0])
	if err != nil {
		return err
	}
	return errors.Join(o.still(services[1:], during), resume())
}

// restock takes in more of every product than there can be orders, and returns the products.
func (o *ours) restock(ctx context.Context) (skus []string, err error) {
	products, err := o.system.Products(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range products {
		skus = append(skus, p.SKU)
		if _, err := o.system.Restock(ctx, "bench-stock-"+p.SKU, p.SKU, stocked); err != nil {
			return nil, err
		}
	}
	slices.Sort(skus)
	return skus, nil
}

// groupsBut leaves the groups of services out.
func groupsBut(groups map[string][]string, services []string) map[string][]string {
	others := maps.Clone(groups)
	for _, service := range services {
		delete(others, service)
		delete(others, deadletter.IndexGroup(service))
	}
	return others
}

// quiet waits until no consumer group is behind but those of services that stand still.
func (o *ours) quiet(ctx context.Context, still []string) error {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	groups := groupsBut(o.cfg.Groups, still)
	for {
		lags, err := o.admin.Lag(ctx, groups)
		if err != nil {
			return err
		}
		behind := ""
		for _, group := range lags {
			for _, p := range group.Partitions {
				if p.Lag > 0 && behind == "" {
					behind = fmt.Sprintf("%s is %d behind in %s/%d", group.Group, p.Lag, p.Topic, p.Partition)
				}
			}
		}
		if behind == "" {
			return nil
		}
		if !wait(ctx, quietInterval) {
			return fmt.Errorf("the system does not come to rest (%w): %s", ctx.Err(), behind)
		}
	}
}

// books audits the whole system.
func (o *ours) books(ctx context.Context, _ *tally) (says, wrong []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, booksTimeout)
	defer cancel()
	audit, err := books.Settle(ctx, o.system, books.Options{})
	if err != nil {
		return nil, nil, err
	}
	for _, f := range audit.Findings {
		says = append(says, f.Name+": "+f.Says)
	}
	if err := audit.Err(); err != nil {
		wrong = append(wrong, fmt.Sprintf("the books: %.2000s", err))
	}
	return says, wrong, nil
}

// died names what went down by itself.
func (o *ours) died() (names []string) {
	for {
		select {
		case exit := <-o.stack.Exits():
			names = append(names, fmt.Sprintf("%s went down (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log))
		default:
			return names
		}
	}
}

package demo

import (
	"context"
	"fmt"
	"slices"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/tools/client"
)

// operator is who works on the dead letters here.
func operator(reason string) client.By { return client.By{Actor: "demo", Reason: reason} }

// poison puts a record that is no message straight onto a topic and waits until it is a dead letter.
func (s *show) poison(ctx context.Context) {
	p := Poison{Service: "inventory"}
	defer func() { s.report.Poison = p }()
	placed, err := s.topics.Send(kafka.Record{Topic: "inventory.commands", Key: []byte("nobody"), Value: []byte("this is no JSON {")})
	if err != nil {
		s.fail("poison: %s", err)
		return
	}
	p.Record = fmt.Sprintf("%s-%d-%d", placed.Topic, placed.Partition, placed.Offset)
	err = s.until(ctx, func(ctx context.Context) error {
		l, err := s.system.Letter(ctx, p.Service, p.Record)
		p.Error = l.Error
		if err == nil && l.ErrorType != letters.ErrorTypeUndecodable {
			err = fmt.Errorf("it is %s", l.ErrorType)
		}
		return err
	})
	if err != nil {
		s.fail("poison %s: %s", p.Record, err)
		return
	}
	p.OK = true
}

// duplicate delivers records of a confirmed order a second time, as they stand in the topics.
func (s *show) duplicate(ctx context.Context) {
	d := Duplicate{OrderID: s.report.Scenarios[0].OrderID, Counted: map[string]int{}}
	defer func() { s.report.Duplicate = d }()
	if err := s.again(ctx, &d); err != nil {
		s.fail("duplicate: %s", err)
		return
	}
	d.OK = true
}

func (s *show) again(ctx context.Context, d *Duplicate) error {
	story, err := s.topics.Story(ctx, d.OrderID)
	if err != nil {
		return err
	}
	hearers := map[string][]string{
		"payment.charge": {"payment"}, "payment.charged": {"order"}, "order.confirmed": {"inventory", "notification", "analytics"},
	}
	before := map[string]float64{}
	for _, service := range slices.Concat(hearers["payment.charge"], hearers["payment.charged"], hearers["order.confirmed"]) {
		if before[service], err = s.system.Metric(ctx, service, "consumer_duplicates_total"); err != nil {
			return err
		}
	}
	for _, e := range story {
		if hearers[e.Event.Type] == nil {
			continue
		}
		if _, err := s.topics.Send(e.Record); err != nil {
			return err
		}
		d.Records = append(d.Records, e.Event.Type)
	}
	if len(d.Records) != len(hearers) {
		return fmt.Errorf("the topics have %v of order %s, which is not its whole story", d.Records, d.OrderID)
	}
	for service := range before {
		err := s.until(ctx, func(ctx context.Context) error {
			n, err := s.system.Metric(ctx, service, "consumer_duplicates_total")
			d.Counted[service] = int(n - before[service])
			if err == nil && n <= before[service] {
				err = fmt.Errorf("%s has counted no duplicate", service)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// letters lists the dead letters, discards the poison and redrives the rest: their orders were cancelled long ago, so
// that must do no harm.
func (s *show) letters(ctx context.Context) {
	for _, service := range []string{"inventory", "payment", "shipping"} {
		// The list follows the dead-letter topic by a moment; a service that was killed takes it up again a little later.
		err := s.until(ctx, func(ctx context.Context) error {
			all, err := s.system.Letters(ctx, service, "")
			if err == nil && len(all) == 0 {
				err = fmt.Errorf("%s should have one", service)
			}
			return err
		})
		if err != nil {
			s.fail("dead letters: %s", err)
		}
	}
	for _, service := range client.Services() {
		all, err := s.system.Letters(ctx, service, "")
		if err != nil {
			s.fail("dead letters: %s", err)
			continue
		}
		for _, l := range all {
			shown := letter(service, l)
			if err := s.settle(ctx, service, l, &shown); err != nil {
				s.fail("dead letter %s of %s: %s", l.ID, service, err)
			}
			s.report.DeadLetters = append(s.report.DeadLetters, shown)
		}
	}
}

func (s *show) settle(ctx context.Context, service string, l letters.Letter, shown *Letter) error {
	if l.ID == s.report.Poison.Record {
		after, err := s.system.Discard(ctx, service, l.ID, operator("it is no message"))
		shown.State = string(after.State)
		return err
	}
	if _, err := s.system.Redrive(ctx, service, l.ID, operator("the outside answers again")); err != nil {
		return err
	}
	return s.until(ctx, func(ctx context.Context) error {
		after, err := s.system.Letter(ctx, service, l.ID)
		shown.State = string(after.State)
		if err == nil && after.State != letters.StateRedriven {
			err = fmt.Errorf("it is %s: %s", after.State, after.Error)
		}
		return err
	})
}

package books

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/tools/client"
)

// Finding is one line of the audit.
type Finding struct {
	// Name is what must hold.
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Says are the figures that show it.
	Says string `json:"says"`
	// Wrong names each thing that is off.
	Wrong []string `json:"wrong,omitempty"`
}

// Audit is what the books say.
type Audit struct {
	OK       bool      `json:"ok"`
	Findings []Finding `json:"findings"`
}

// Err is nil when the books balance, and otherwise names everything that is off.
func (a Audit) Err() error {
	var errs []error
	for _, f := range a.Findings {
		for _, w := range f.Wrong {
			errs = append(errs, fmt.Errorf("%s: %s", f.Name, w))
		}
	}
	return errors.Join(errs...)
}

// Options are what an audit overlooks.
type Options struct {
	// Expected tells of a dead letter that it may lie where it is.
	Expected func(service string, l letters.Letter) bool
}

// Settle audits until the books balance or ctx ends, for listeners follow by a moment. The error is about reading
// them; what they say is in the audit.
func Settle(ctx context.Context, s *client.System, o Options) (Audit, error) {
	var last Audit
	err := client.Eventually(ctx, func(ctx context.Context) error {
		audit, err := Check(ctx, s, o)
		if err != nil {
			return err
		}
		last = audit
		return audit.Err()
	})
	if len(last.Findings) > 0 {
		return last, nil
	}
	return last, err
}

// Check audits once.
func Check(ctx context.Context, s *client.System, o Options) (Audit, error) {
	orders, err := s.AllOrders(ctx, "")
	if err != nil {
		return Audit{}, err
	}
	sum := summarise(orders)
	audit := Audit{OK: true}
	for _, check := range []func(context.Context, *client.System, summary) (Finding, error){
		terminal, stock, money, parcels, notifications, figures,
		func(ctx context.Context, s *client.System, _ summary) (Finding, error) { return deadLetters(ctx, s, o) },
	} {
		f, err := check(ctx, s, sum)
		if err != nil {
			return Audit{}, fmt.Errorf("audit: %w", err)
		}
		f.OK = len(f.Wrong) == 0
		audit.OK = audit.OK && f.OK
		audit.Findings = append(audit.Findings, f)
	}
	return audit, nil
}

// summary is what the order service says.
type summary struct {
	orders    []orderapi.Order
	states    map[orderapi.OrderState]int64
	confirmed map[string]int64 // minor units by currency
	shipped   map[string]int64 // pieces by SKU
	customers []string
}

func summarise(orders []orderapi.Order) summary {
	s := summary{orders: orders, states: map[orderapi.OrderState]int64{}, confirmed: map[string]int64{}, shipped: map[string]int64{}}
	customers := map[string]bool{}
	for _, o := range orders {
		customers[o.CustomerID] = true
		s.states[o.State]++
		if o.State != orderapi.OrderStateConfirmed {
			continue
		}
		s.confirmed[o.Total.Currency] += o.Total.Amount
		for _, l := range o.Lines {
			s.shipped[l.SKU] += int64(l.Quantity)
		}
	}
	s.customers = slices.Sorted(maps.Keys(customers))
	return s
}

func (f *Finding) wrong(format string, args ...any) {
	f.Wrong = append(f.Wrong, fmt.Sprintf(format, args...))
}

func (f *Finding) same(what string, got, want int64) {
	if got != want {
		f.wrong("%s is %d, must be %d", what, got, want)
	}
}

func terminal(_ context.Context, _ *client.System, s summary) (Finding, error) {
	confirmed, cancelled := s.states[orderapi.OrderStateConfirmed], s.states[orderapi.OrderStateCancelled]
	f := Finding{Name: "every order has ended", Says: fmt.Sprintf("%d orders: %d confirmed, %d cancelled", len(s.orders), confirmed, cancelled)}
	for _, o := range s.orders {
		if !client.Final(o) {
			f.wrong("order %s is %s", o.OrderID, o.State)
		}
		if (o.Failure != nil) != (o.State == orderapi.OrderStateCancelled || o.State == orderapi.OrderStateCancelling) {
			f.wrong("order %s is %s and its failure is %v", o.OrderID, o.State, o.Failure)
		}
	}
	return f, nil
}

func stock(ctx context.Context, c *client.System, s summary) (Finding, error) {
	all, err := c.Stock(ctx)
	f := Finding{Name: "stock in = available + reserved + shipped"}
	var in, available, reserved, shipped int64
	for _, sku := range slices.Sorted(maps.Keys(all)) {
		b := all[sku]
		f.same(sku+": available + reserved + shipped", b.Available+b.Reserved+b.Shipped, b.Received)
		f.same(sku+": shipped", b.Shipped, s.shipped[sku])
		f.same(sku+": reserved", b.Reserved, 0)
		in, available, reserved, shipped = in+b.Received, available+b.Available, reserved+b.Reserved, shipped+b.Shipped
	}
	f.Says = fmt.Sprintf("%d = %d + %d + %d pieces; confirmed orders hold %d", in, available, reserved, shipped, total(s.shipped))
	return f, err
}

func total(m map[string]int64) (sum int64) {
	for _, v := range m {
		sum += v
	}
	return sum
}

func money(ctx context.Context, c *client.System, s summary) (Finding, error) {
	totals, err := c.PaymentTotals(ctx)
	f := Finding{Name: "money charged − refunded = confirmed totals"}
	var says []string
	kept := map[string]int64{}
	for _, t := range totals.Currencies {
		kept[t.Currency] = t.Charged - t.Refunded
		says = append(says, fmt.Sprintf("%s − %s = %s", Amount(t.Charged, t.Currency), Amount(t.Refunded, t.Currency), Amount(kept[t.Currency], t.Currency)))
	}
	for currency := range union(kept, s.confirmed) {
		f.same("charged − refunded in "+currency, kept[currency], s.confirmed[currency])
	}
	if totals.Provider != nil {
		ledger := map[string]int64{}
		for _, t := range *totals.Provider {
			ledger[t.Currency] = t.Charged - t.Refunded
		}
		for currency := range union(ledger, kept) {
			f.same("the provider's ledger in "+currency, ledger[currency], kept[currency])
		}
		says = append(says, "the provider's ledger agrees")
	}
	f.Says = strings.Join(says, "; ")
	return f, err
}

func union(a, b map[string]int64) map[string]int64 {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func parcels(ctx context.Context, c *client.System, s summary) (Finding, error) {
	totals, err := c.ShipmentTotals(ctx)
	f := Finding{Name: "parcels arranged = confirmed orders", Says: fmt.Sprintf("%d arranged, %d cancelled, %d refused", totals.Arranged, totals.Cancelled, totals.Refused)}
	f.same("arranged", totals.Arranged, s.states[orderapi.OrderStateConfirmed])
	return f, err
}

// Transitions that every order's customer is told of, by the order's state.
var told = map[orderapi.OrderState]map[string]int{
	orderapi.OrderStatePending:    {"order_placed": 1},
	orderapi.OrderStateCancelling: {"order_placed": 1},
	orderapi.OrderStateConfirmed:  {"order_placed": 1, "order_confirmed": 1},
	orderapi.OrderStateCancelled:  {"order_placed": 1, "order_cancelled": 1},
}

func notifications(ctx context.Context, c *client.System, s summary) (Finding, error) {
	f := Finding{Name: "every transition was told once"}
	heard := map[string]map[string]int{} // by order and kind
	count, refunds := 0, int64(0)
	for _, customer := range s.customers {
		all, err := c.AllNotifications(ctx, customer)
		if err != nil {
			return f, err
		}
		for _, n := range all {
			if heard[n.OrderID] == nil {
				heard[n.OrderID] = map[string]int{}
			}
			heard[n.OrderID][n.Kind]++
			count++
			if n.Kind == "order_refunded" {
				refunds++
			}
		}
	}
	for _, o := range s.orders {
		for _, kind := range []string{"order_placed", "order_confirmed", "order_cancelled"} {
			if got, want := heard[o.OrderID][kind], told[o.State][kind]; got != want {
				f.wrong("order %s is %s: %s was told %d times, must be %d", o.OrderID, o.State, kind, got, want)
			}
		}
		for kind, n := range heard[o.OrderID] {
			if n > 1 && told[orderapi.OrderStateConfirmed][kind]+told[orderapi.OrderStateCancelled][kind] == 0 {
				f.wrong("order %s: %s was told %d times", o.OrderID, kind, n)
			}
		}
	}
	totals, err := c.PaymentTotals(ctx)
	want := int64(0)
	for _, t := range totals.Currencies {
		want += t.Refunds
	}
	f.same("refunds told", refunds, want)
	f.Says = fmt.Sprintf("%d notifications to %d customers", count, len(s.customers))
	return f, err
}

func figures(ctx context.Context, c *client.System, s summary) (Finding, error) {
	got, err := c.Figures(ctx)
	f := Finding{Name: "the figures agree"}
	f.same("orders", got.Orders.Total, int64(len(s.orders)))
	f.same("confirmed", got.Orders.Confirmed, s.states[orderapi.OrderStateConfirmed])
	f.same("cancelled", got.Orders.Cancelled, s.states[orderapi.OrderStateCancelled])
	revenue, says := map[string]int64{}, []string{}
	for _, m := range got.Revenue {
		revenue[m.Currency] = m.Amount
		says = append(says, Amount(m.Amount, m.Currency))
	}
	for currency := range union(revenue, s.confirmed) {
		f.same("revenue in "+currency, revenue[currency], s.confirmed[currency])
	}
	f.Says = fmt.Sprintf("%d orders, revenue %s", got.Orders.Total, strings.Join(says, ", "))
	return f, err
}

func deadLetters(ctx context.Context, c *client.System, o Options) (Finding, error) {
	f := Finding{Name: "no dead letter is unaccounted for"}
	states := map[letters.State]int{}
	count := 0
	for _, service := range client.Services() {
		all, err := c.Letters(ctx, service, "")
		if err != nil {
			return f, err
		}
		for _, l := range all {
			count++
			states[l.State]++
			settled := l.State == letters.StateRedriven || l.State == letters.StateDiscarded
			if !settled && (o.Expected == nil || !o.Expected(service, l)) {
				f.wrong("%s: %s is %s (%s: %s)", service, l.ID, l.State, l.ErrorType, l.Error)
			}
		}
	}
	f.Says = fmt.Sprintf("%d dead letters: %d redriven, %d discarded", count, states[letters.StateRedriven], states[letters.StateDiscarded])
	return f, nil
}

// Amount writes minor units for people: 2500 EUR as "25.00 EUR". Every currency here has two decimals.
func Amount(minor int64, currency string) string {
	sign := ""
	if minor < 0 {
		sign, minor = "-", -minor
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, minor/100, minor%100, currency)
}

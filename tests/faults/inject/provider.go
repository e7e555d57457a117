package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Manner is how a Provider answers a request.
type Manner string

// Manners. What the provider did stands in its books, whatever it answered.
const (
	// Fails answers 503 and does nothing; FailsAfter does what is asked and answers 503 all the same.
	Fails      Manner = "fails"
	FailsAfter Manner = "fails after"
	// Hangs does nothing and never answers; HangsAfter does what is asked and never answers.
	Hangs      Manner = "hangs"
	HangsAfter Manner = "hangs after"
	// Tears does what is asked, and the connection ends in the middle of the answer.
	Tears Manner = "tears"
	// Twice does what is asked once, and answers two times over.
	Twice Manner = "twice"
	// Denies does what is asked and says that it was declined. Pretends says that it was done and does nothing. These are lies,
	// of which no service can know: the provider stands by them, and answers an undo by what it said and not by what it did.
	// Only the first request under a key is lied to, and only where it makes a difference.
	Denies   Manner = "denies"
	Pretends Manner = "pretends"
)

// Provider is a payment provider and a carrier behind HTTP, for PAYMENT_PROVIDER=http and CARRIER=http: the contracts of
// services/payment and services/shipping, with books of its own. It declines what the sandboxes decline, and otherwise
// knows no magic: in which manner it answers is up to Begin.
type Provider struct {
	url    string
	server *http.Server
	served chan error
	// stop ends the requests that hang.
	stop context.CancelFunc

	mu      sync.Mutex
	entries map[string]*Entry
	begun   []*manner
}

type manner struct {
	Manner
	asked map[string]bool
}

// Entry is a charge or a parcel in the provider's books.
type Entry struct {
	// Key is the Idempotency-Key that it was asked under, Kind "charge" or "parcel".
	Key, Kind string
	// Done and Undone tell what was done, as the provider says. An entry that was only undone is called off.
	Done, Undone bool
	// Refusal is why it was not done, a code.
	Refusal string
	// Lie is Denies or Pretends when the truth is another, which Really tells.
	Lie Manner
	// Asked is how many requests came, those to undo included.
	Asked int
	// Amount, in minor units, and Currency are a charge's.
	Amount   int64
	Currency string
}

// Really is what was done.
func (e Entry) Really() Entry {
	switch e.Lie {
	case Denies:
		e.Done, e.Undone, e.Refusal = true, false, ""
	case Pretends:
		e.Done, e.Undone = false, false
	}
	return e
}

// OpenProvider listens on a free port of 127.0.0.1. Close it.
func OpenProvider() (*Provider, error) {
	var listen net.ListenConfig
	listener, err := listen.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the provider: %w", err)
	}
	p := &Provider{url: "http://" + listener.Addr().String(), served: make(chan error, 1), entries: map[string]*Entry{}}
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("POST /charges", func(w http.ResponseWriter, r *http.Request) {
		p.handle(w, r, r.Header.Get("Idempotency-Key"), p.charge)
	})
	mux.HandleFunc("POST /parcels", func(w http.ResponseWriter, r *http.Request) {
		p.handle(w, r, r.Header.Get("Idempotency-Key"), p.parcel)
	})
	mux.HandleFunc("POST /charges/{key}/refund", func(w http.ResponseWriter, r *http.Request) { p.handle(w, r, r.PathValue("key"), p.undo) })
	mux.HandleFunc("POST /parcels/{key}/cancel", func(w http.ResponseWriter, r *http.Request) { p.handle(w, r, r.PathValue("key"), p.undo) })
	p.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { p.served <- p.server.Serve(listener) }()
	return p, nil
}

// Close ends all that hangs and returns when the provider is gone.
func (p *Provider) Close() error {
	p.stop()
	err := p.server.Close()
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Env are the settings of the services that use it, by service, for stack.Options.Env.
func (p *Provider) Env() map[string][]string {
	return map[string][]string{
		"payment":  {"PAYMENT_PROVIDER=http", "PAYMENT_PROVIDER_URL=" + p.url},
		"shipping": {"CARRIER=http", "CARRIER_URL=" + p.url},
	}
}

// Begin has the first request under each key, that to do something and that to undo it, answered in a manner until mended.
// When several have begun, the latest counts.
func (p *Provider) Begin(m Manner) (mend func()) {
	begun := &manner{m, map[string]bool{}}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = append(p.begun, begun)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for i, other := range p.begun {
			if other == begun {
				p.begun = append(p.begun[:i:i], p.begun[i+1:]...)
				return
			}
		}
	}
}

// Books are what the provider says that it did, by key: "charge-<order id>" and "arrange-<order id>".
func (p *Provider) Books() map[string]Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]Entry, len(p.entries))
	for key, e := range p.entries {
		all[key] = *e
	}
	return all
}

// Taken is what was charged and not refunded, in minor units by currency.
func (p *Provider) Taken() map[string]int64 {
	taken := map[string]int64{}
	for _, e := range p.Books() {
		if e.Kind == "charge" && e.Done && !e.Undone {
			taken[e.Currency] += e.Amount
		}
	}
	return taken
}

// answer is what the provider says: a status and a body, which may be nil.
type answer struct {
	status int
	body   any
}

// request is what comes under a key.
type request struct {
	Amount   int64  `json:"amount"`
	Currency string `json:"currency"`
	Method   string `json:"payment_method"`
	Address  struct {
		Country string `json:"country"`
	} `json:"address"`
}

// maxRequest bounds a request's body.
const maxRequest = 1 << 20

// handle answers a request in the manner that is due. act does what is asked in an entry, and says so.
func (p *Provider) handle(w http.ResponseWriter, r *http.Request, key string, act func(*Entry, request) answer) {
	var asked request
	if err := json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&asked); err != nil || key == "" {
		say(w, answer{http.StatusBadRequest, map[string]any{"code": "malformed"}})
		return
	}
	undo := r.PathValue("key") != ""
	p.mu.Lock()
	e := p.entries[key]
	if e == nil {
		e = &Entry{Key: key, Kind: strings.TrimSuffix(strings.Split(r.URL.Path, "/")[1], "s")}
		p.entries[key] = e
	}
	e.Asked++
	m := p.due(key, undo)
	said := answer{}
	if m != Fails && m != Hangs {
		said = act(e, asked)
	}
	if (m == Denies || m == Pretends) && e.Asked == 1 && e.Done {
		said = e.lie(m, said)
	}
	p.mu.Unlock()
	switch m {
	case Fails, FailsAfter:
		say(w, answer{http.StatusServiceUnavailable, nil})
	case Hangs, HangsAfter:
		<-r.Context().Done() // the caller has gone
	case Tears, Twice:
		raw(w, said, m == Twice)
	default:
		say(w, said)
	}
}

// due is the manner of the next answer; the caller holds mu.
func (p *Provider) due(key string, undo bool) Manner {
	if len(p.begun) == 0 {
		return ""
	}
	m := p.begun[len(p.begun)-1]
	if undo {
		key += " undo"
	}
	if m.asked[key] {
		return ""
	}
	m.asked[key] = true
	return m.Manner
}

// lie makes an entry that was done a lie, and returns what is said of it then.
func (e *Entry) lie(m Manner, honest answer) answer {
	e.Lie = m
	if m == Pretends {
		return honest
	}
	e.Done, e.Refusal = false, map[string]string{"charge": "card_declined", "parcel": "region_not_served"}[e.Kind]
	return e.refused()
}

// refused is what is said of an entry with a Refusal.
func (e *Entry) refused() answer {
	status := map[string]int{"charge": http.StatusPaymentRequired, "parcel": http.StatusUnprocessableEntity}[e.Kind]
	return answer{status, map[string]any{"code": e.Refusal, "detail": "the sandbox's reason"}}
}

func (p *Provider) charge(e *Entry, r request) answer {
	switch {
	case e.Undone:
		return answer{http.StatusConflict, map[string]any{"code": "called_off"}}
	case e.Done && (e.Amount != r.Amount || e.Currency != r.Currency):
		return answer{http.StatusUnprocessableEntity, map[string]any{"code": "key_reused"}}
	case r.Method == "tok_declined":
		e.Refusal = "card_declined"
	case r.Method == "tok_insufficient_funds":
		e.Refusal = "insufficient_funds"
	}
	if e.Refusal != "" {
		return e.refused()
	}
	e.Done, e.Amount, e.Currency = true, r.Amount, r.Currency
	return answer{http.StatusCreated, map[string]any{"reference": "ch_" + e.Key}}
}

func (p *Provider) parcel(e *Entry, r request) answer {
	switch {
	case e.Undone:
		return answer{http.StatusConflict, map[string]any{"code": "called_off"}}
	case r.Address.Country == "AQ":
		e.Refusal = "region_not_served"
	}
	if e.Refusal != "" {
		return e.refused()
	}
	e.Done = true
	return answer{http.StatusCreated, parcelOf(e)}
}

func parcelOf(e *Entry) any {
	return map[string]any{"carrier": "Faulty Freight", "tracking_number": "FF-" + e.Key}
}

func (p *Provider) undo(e *Entry, _ request) answer {
	if e.Refusal == "" {
		e.Undone = true
	}
	switch {
	case !e.Done:
		return answer{http.StatusNoContent, nil}
	case e.Kind == "charge":
		return answer{http.StatusOK, map[string]any{"amount": e.Amount, "currency": e.Currency, "reference": "re_" + e.Key}}
	default:
		return answer{http.StatusOK, parcelOf(e)}
	}
}

func (a answer) bytes() []byte {
	if a.body == nil {
		return nil
	}
	text, _ := json.Marshal(a.body) // maps of texts and numbers
	return text
}

func say(w http.ResponseWriter, a answer) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.bytes()) // the caller may have gone
}

// raw writes the answer on the bare connection, all of it two times or half of it, and ends that.
func raw(w http.ResponseWriter, a answer, twice bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		say(w, answer{http.StatusInternalServerError, nil})
		return
	}
	defer func() { _ = conn.Close() }()
	body := a.bytes()
	text := "HTTP/1.1 " + strconv.Itoa(a.status) + " " + http.StatusText(a.status) + "\r\nContent-Type: application/json\r\n"
	if a.status != http.StatusNoContent {
		text += "Content-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	text += "\r\n" + string(body)
	if twice {
		text += text
	} else {
		text = text[:len(text)-len(body)/2-1]
	}
	_, _ = io.WriteString(conn, text) // the caller may have gone
}

package client

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Services are the names of the services, in the order of an order's way through them.
func Services() []string {
	return []string{"order", "inventory", "payment", "shipping", "notification", "analytics"}
}

// Addresses are where a system can be reached.
type Addresses struct {
	// URLs are the base URLs of the services by name.
	URLs map[string]string
	// Brokers are Kafka's, host:port each.
	Brokers []string
	// RedisURL is where Redis is.
	RedisURL string
}

// Variable is the environment variable that holds a service's base URL.
func Variable(service string) string { return strings.ToUpper(service) + "_URL" }

// FromEnv reads the addresses from the environment and names every variable that is missing or malformed.
func FromEnv(getenv func(string) string) (Addresses, error) {
	a := Addresses{URLs: map[string]string{}, RedisURL: getenv("REDIS_URL")}
	var errs []error
	for _, service := range Services() {
		name := Variable(service)
		raw := strings.TrimSuffix(getenv(name), "/")
		if u, err := url.Parse(raw); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, fmt.Errorf("%s is %q, must be the base URL of the %s service, such as http://127.0.0.1:8080", name, raw, service))
		}
		a.URLs[service] = raw
	}
	for _, broker := range strings.Split(getenv("KAFKA_BROKERS"), ",") {
		if broker = strings.TrimSpace(broker); broker != "" {
			a.Brokers = append(a.Brokers, broker)
		}
	}
	if len(a.Brokers) == 0 {
		errs = append(errs, errors.New("KAFKA_BROKERS is empty, must be host:port separated by commas"))
	}
	if !strings.HasPrefix(a.RedisURL, "redis://") && !strings.HasPrefix(a.RedisURL, "rediss://") {
		errs = append(errs, fmt.Errorf("REDIS_URL is %q, must be redis://host:port", a.RedisURL))
	}
	return a, errors.Join(errs...)
}

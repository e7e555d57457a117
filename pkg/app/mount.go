package app

import (
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/go-chi/chi/v5"

	"github.com/orderflow/orderflow/pkg/httpapi"
)

// Mount serves an API on the app's router: requests are validated against spec (the generated GetSpec) before the
// routes see them.
func (a *App) Mount(spec func() (*openapi3.T, error), routes func(r chi.Router)) error {
	doc, err := spec()
	if err != nil {
		return err
	}
	httpapi.Mount(a.Router, doc, httpapi.MountOptions{}, routes)
	return nil
}

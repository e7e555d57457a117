package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api"
	analyticsapi "github.com/orderflow/orderflow/api/rest/analytics"
	inventoryapi "github.com/orderflow/orderflow/api/rest/inventory"
	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	orderapi "github.com/orderflow/orderflow/api/rest/order"
	paymentapi "github.com/orderflow/orderflow/api/rest/payment"
	shippingapi "github.com/orderflow/orderflow/api/rest/shipping"
)

// embedded are the documents that the generated packages carry.
var embedded = map[string]func() (*openapi3.T, error){
	"order": orderapi.GetSpec, "inventory": inventoryapi.GetSpec, "payment": paymentapi.GetSpec,
	"shipping": shippingapi.GetSpec, "notification": notificationapi.GetSpec, "analytics": analyticsapi.GetSpec,
}

func readOpenAPI(t *testing.T, service string) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi/" + service + ".yaml")
	require.NoError(t, err)
	return doc
}

func TestOpenAPIDocumentsAreValidAndTheirExamplesToo(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			doc := readOpenAPI(t, service)
			require.Equal(t, "3.0.3", doc.OpenAPI)
			require.NoError(t, doc.Validate(context.Background(), openapi3.EnableExamplesValidation()))
		})
	}
}

func TestGeneratedCodeCarriesTheDocument(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			carried, err := embedded[service]()
			require.NoError(t, err)
			have, err := json.Marshal(carried)
			require.NoError(t, err)
			doc := readOpenAPI(t, service)
			for _, item := range doc.Paths.Map() {
				for _, operation := range item.Operations() {
					// The generator embeds the ids as it names the Go methods.
					operation.OperationID = strings.ToUpper(operation.OperationID[:1]) + operation.OperationID[1:]
				}
			}
			want, err := json.Marshal(doc)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, have), "rest/%s is not made of openapi/%s.yaml: run make generate", service, service)
		})
	}
}

func TestEveryOperationSaysHowItFails(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		doc := readOpenAPI(t, service)
		for path, item := range doc.Paths.Map() {
			for method, operation := range item.Operations() {
				name := service + " " + method + " " + path
				require.NotEmpty(t, operation.OperationID, name)
				require.NotEmpty(t, operation.Description, name)
				require.Len(t, operation.Tags, 1, name)
				require.NotNil(t, doc.Tags.Get(operation.Tags[0]), name)
				want := []string{"503"}
				if len(operation.Parameters) > 0 {
					want = append(want, "400")
				}
				if operation.RequestBody != nil {
					want = append(want, "400", "413", "415")
				}
				for _, status := range want {
					require.NotNil(t, operation.Responses.Value(status), "%s: no %s", name, status)
				}
				for status, response := range operation.Responses.Map() {
					if status >= "400" {
						require.NotNil(t, response.Value.Content.Get("application/problem+json"), "%s %s", name, status)
						require.Len(t, response.Value.Content, 1, "%s %s", name, status)
					}
				}
			}
		}
	}
}

func TestEverythingIsBoundedAndRequestBodiesAreClosed(t *testing.T) {
	t.Parallel()
	for _, service := range services {
		doc := readOpenAPI(t, service)
		for name, schema := range doc.Components.Schemas {
			bounded(t, service+" "+name, schema)
		}
		for path, item := range doc.Paths.Map() {
			for _, operation := range item.Operations() {
				for _, parameter := range operation.Parameters {
					bounded(t, service+" "+path+" "+parameter.Value.Name, parameter.Value.Schema)
					require.NotEmpty(t, parameter.Value.Description, "%s %s", path, parameter.Value.Name)
				}
				if operation.RequestBody != nil {
					closed(t, service+" "+path, operation.RequestBody.Value.Content.Get("application/json").Schema)
				}
			}
		}
	}
}

// bounded demands limits of whatever has no end of its own.
func bounded(t *testing.T, path string, schema *openapi3.SchemaRef) {
	t.Helper()
	s := schema.Value
	switch {
	case s.Type.Is("string"):
		limited := s.MaxLength != nil || len(s.Enum) > 0 || s.Format == "binary"
		require.True(t, limited, "%s: a string without a limit", path)
	case s.Type.Is("boolean"):
	case s.Type.Is("integer"):
		require.True(t, s.Min != nil && s.Max != nil, "%s: an integer without limits", path)
	case s.Type.Is("array"):
		require.NotNil(t, s.MaxItems, "%s: an array without a limit", path)
		bounded(t, path+"[]", s.Items)
	case s.Type.Is("object"):
		for name, property := range s.Properties {
			bounded(t, path+"/"+name, property)
		}
	default:
		require.Fail(t, "unexpected type", "%s: %v", path, s.Type)
	}
}

// closed demands that unknown fields are refused, at every depth.
func closed(t *testing.T, path string, schema *openapi3.SchemaRef) {
	t.Helper()
	s := schema.Value
	if s.Type.Is("array") {
		closed(t, path+"[]", s.Items)
	}
	if !s.Type.Is("object") {
		return
	}
	require.True(t, s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has, "%s is open", path)
	for name, property := range s.Properties {
		closed(t, path+"/"+name, property)
	}
}

// Each document stands alone, so what they share is written several times: it must be written alike.
func TestSharedPartsAreTheSameInEveryDocument(t *testing.T) {
	t.Parallel()
	first := map[string]string{}
	for _, service := range services {
		doc := readOpenAPI(t, service)
		same := func(kind, name string, part any) {
			data, err := json.Marshal(part)
			require.NoError(t, err)
			key := kind + " " + name
			if before, ok := first[key]; ok {
				require.JSONEq(t, before, string(data), "%s %s differs from another document's", service, key)
			}
			first[key] = string(data)
		}
		for name, part := range doc.Components.Schemas {
			same("schema", name, part.Value)
		}
		for name, part := range doc.Components.Parameters {
			same("parameter", name, part.Value)
		}
		for name, part := range doc.Components.Responses {
			same("response", name, part.Value)
		}
	}
	require.Contains(t, first, "schema Problem")
}

// What REST takes must fit into the messages that it leads to, or an accepted order could not be published.
func TestRESTAndMessagesHaveTheSameLimits(t *testing.T) {
	t.Parallel()
	data, err := api.Schemas.ReadFile("schemas/common.json")
	require.NoError(t, err)
	type limits struct {
		Pattern    string            `json:"pattern,omitempty"`
		MinLength  int               `json:"minLength,omitempty"`
		MaxLength  int               `json:"maxLength,omitempty"`
		Minimum    int64             `json:"minimum,omitempty"`
		Maximum    int64             `json:"maximum,omitempty"`
		Required   []string          `json:"required,omitempty"`
		Properties map[string]limits `json:"properties,omitempty"`
	}
	var common struct {
		Defs map[string]limits `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(data, &common))
	doc := readOpenAPI(t, "order")
	rest := func(name string) limits {
		data, err := json.Marshal(doc.Components.Schemas[name].Value)
		require.NoError(t, err)
		var l limits
		require.NoError(t, json.Unmarshal(data, &l))
		return l
	}
	require.Equal(t, common.Defs["Quantity"], rest("Quantity"))
	require.Equal(t, common.Defs["Sku"].Pattern, rest("Sku").Pattern)
	require.Equal(t, common.Defs["Id"].Pattern, rest("CustomerId").Pattern)
	require.Equal(t, common.Defs["PaymentMethod"].Pattern, rest("CreateOrderRequest").Properties["payment_method"].Pattern)
	address, inRest := common.Defs["Address"], rest("Address")
	slices.Sort(address.Required)
	slices.Sort(inRest.Required)
	require.Equal(t, address.Required, inRest.Required)
	for name, field := range address.Properties {
		have := inRest.Properties[name]
		require.Equal(t, field.Pattern, have.Pattern, name)
		require.Equal(t, field.MinLength, have.MinLength, name)
		if !strings.HasPrefix(field.Pattern, "^[A-Z]{2}") {
			require.Equal(t, field.MaxLength, have.MaxLength, name)
		}
	}
}

func TestTextsForPeopleTakeNoControlCharacters(t *testing.T) {
	t.Parallel()
	street := readOpenAPI(t, "order").Components.Schemas["Address"].Value.Properties["street"].Value
	for _, good := range []string{"Musterstrasse 1", "Łódzka 12/4", "中山路", "a"} {
		require.NoError(t, street.VisitJSON(good), good)
	}
	for _, bad := range []string{"", " ", "\t", "a\x00b", "line\nbreak", strings.Repeat("s", 201)} {
		require.Error(t, street.VisitJSON(bad), "%q", bad)
	}
}

package events_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/api"
	"github.com/orderflow/orderflow/api/events"
)

// node is as much of a JSON Schema as the messages use.
type node struct {
	Ref         string            `json:"$ref"`
	ID          string            `json:"$id"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Format      string            `json:"format"`
	Pattern     string            `json:"pattern"`
	MaxLength   *int              `json:"maxLength"`
	Minimum     *int64            `json:"minimum"`
	Maximum     *int64            `json:"maximum"`
	MaxItems    *int              `json:"maxItems"`
	Required    []string          `json:"required"`
	Properties  map[string]node   `json:"properties"`
	Items       *node             `json:"items"`
	Defs        map[string]node   `json:"$defs"`
	Additional  *json.RawMessage  `json:"additionalProperties"`
	Examples    []json.RawMessage `json:"examples"`
}

func readSchema(t *testing.T, name string) node {
	t.Helper()
	data, err := api.Schemas.ReadFile("schemas/" + name + ".json")
	require.NoError(t, err)
	var n node
	require.NoError(t, json.Unmarshal(data, &n))
	return n
}

// resolve follows references into common.json, the only ones there are.
func resolve(t *testing.T, n node, common map[string]node) node {
	t.Helper()
	for n.Ref != "" {
		name := n.Ref[strings.LastIndex(n.Ref, "/")+1:]
		target, ok := common[name]
		require.True(t, ok, "no definition %s", n.Ref)
		n = target
	}
	return n
}

func TestGoTypesAgreeWithSchemasFieldByField(t *testing.T) {
	t.Parallel()
	common := readSchema(t, "common").Defs
	for _, m := range events.All() {
		t.Run(m.Type, func(t *testing.T) {
			t.Parallel()
			schema := readSchema(t, m.Type)
			require.Equal(t, m.Type, schema.Title)
			require.Equal(t, "https://orderflow.example/schemas/"+m.Type+".json", schema.ID)
			require.NotEmpty(t, schema.Description)
			require.Contains(t, schema.Required, "order_id", "the record key is the order id")
			agree(t, m.Type, schema, reflect.TypeOf(m.New()).Elem(), common)
		})
	}
}

func agree(t *testing.T, path string, n node, typ reflect.Type, common map[string]node) {
	t.Helper()
	n = resolve(t, n, common)
	switch n.Type {
	case "string":
		require.True(t, n.MaxLength != nil || n.Pattern != "", "%s is unbounded", path)
		if n.Format == "date-time" {
			require.Equal(t, reflect.TypeFor[time.Time](), typ, path)
			return
		}
		require.Equal(t, reflect.String, typ.Kind(), path)
	case "integer":
		require.Contains(t, []reflect.Kind{reflect.Int, reflect.Int64}, typ.Kind(), path)
		require.True(t, n.Minimum != nil && n.Maximum != nil, "%s is unbounded", path)
	case "array":
		require.Equal(t, reflect.Slice, typ.Kind(), path)
		require.True(t, strings.HasPrefix(typ.Name(), "List["), "%s: a plain slice can be null", path)
		require.NotNil(t, n.MaxItems, "%s is unbounded", path)
		agree(t, path+"[]", *n.Items, typ.Elem(), common)
	case "object":
		require.Nil(t, n.Additional, "%s: messages stay open to fields of later versions", path)
		agreeObject(t, path, n, typ, common)
	default:
		require.Fail(t, "unexpected type", "%s: %q", path, n.Type)
	}
}

func agreeObject(t *testing.T, path string, n node, typ reflect.Type, common map[string]node) {
	t.Helper()
	require.Equal(t, reflect.Struct, typ.Kind(), path)
	names := make([]string, 0, typ.NumField())
	for field := range typ.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		property, ok := n.Properties[name]
		require.True(t, ok, "%s: the schema has no %q, which %s.%s is written as", path, name, typ, field.Name)
		require.Equal(t, slices.Contains(n.Required, name), options == "", "%s/%s: omitempty exactly if not required", path, name)
		agree(t, path+"/"+name, property, field.Type, common)
		names = append(names, name)
	}
	for name := range n.Properties {
		require.Contains(t, names, name, "%s: %s lacks a field of the schema", path, typ)
	}
	for _, name := range n.Required {
		require.Contains(t, n.Properties, name, "%s: requires what it does not describe", path)
	}
}

func TestReasonCodesAreTheSchemasExamples(t *testing.T) {
	t.Parallel()
	var codes []string
	for _, example := range readSchema(t, "common").Defs["Reason"].Properties["code"].Examples {
		var code string
		require.NoError(t, json.Unmarshal(example, &code))
		codes = append(codes, code)
	}
	require.ElementsMatch(t, []string{
		events.ReasonOutOfStock, events.ReasonPaymentDeclined, events.ReasonShippingRefused,
		events.ReasonCancelledByCustomer, events.ReasonCancelledByOperator, events.ReasonTimedOut,
	}, codes)
}

func TestEverySchemaHasAType(t *testing.T) {
	t.Parallel()
	files, err := api.Schemas.ReadDir("schemas")
	require.NoError(t, err)
	for _, f := range files {
		name := strings.TrimSuffix(f.Name(), ".json")
		if name == "common" {
			continue
		}
		_, ok := events.Find(name)
		require.True(t, ok, "%s has no Go type", f.Name())
	}
	require.Len(t, files, len(events.All())+1)
}

func TestCommonDefinitionsAreAllUsed(t *testing.T) {
	t.Parallel()
	files, err := api.Schemas.ReadDir("schemas")
	require.NoError(t, err)
	var all strings.Builder
	for _, f := range files {
		data, err := api.Schemas.ReadFile("schemas/" + f.Name())
		require.NoError(t, err)
		all.Write(data)
	}
	for name := range readSchema(t, "common").Defs {
		require.Contains(t, all.String(), "#/$defs/"+name+`"`)
	}
}

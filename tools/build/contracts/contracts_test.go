package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// scratch is a copy of the real contracts, released as they stand.
func scratch(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, folder := range []string{"schemas", "openapi"} {
		require.NoError(t, os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join("..", "..", "..", "api", folder))))
	}
	require.NoError(t, release(dir, &bytes.Buffer{}))
	return dir
}

func edit(t *testing.T, file, from, to string) {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(data), from, "the test is out of date")
	require.NoError(t, os.WriteFile(file, []byte(strings.Replace(string(data), from, to, 1)), 0o600))
}

func TestWhatIsReleasedIsNotBroken(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run("check", filepath.Join("..", "..", "..", "api"), &out), &out)
}

func TestBreaksAreFoundAndNotReleased(t *testing.T) {
	t.Parallel()
	const created, common, order = "schemas/order.created.json", "schemas/common.json", "openapi/order.yaml"
	for name, c := range map[string]struct{ file, from, to, says string }{
		"field removed": {
			"schemas/payment.refunded.json", `"provider_reference": {`, `"reference": {`,
			"schemas/payment.refunded.json /provider_reference: the field was removed",
		},
		"field retyped": {common, `"type": "integer",
          "minimum": 0`, `"type": "string",
          "minimum": 0`, "schemas/order.created.json /lines[]/unit_price/amount: type was integer and is string"},
		"no longer required": {created, `"required": [
    "order_id",`, `"required": [`, "/order_id: the field is no longer required"},
		"newly required": {"schemas/shipping.cancelled.json", `"customer_id"
  ]`, `"customer_id", "shipment_id"
  ]`, "/shipment_id: the field is newly required"},
		"new and required": {"schemas/shipping.cancelled.json", `"customer_id"
  ]`, `"customer_id", "why"
  ]`, "/why: the field is newly required"},
		"bound narrowed":       {common, `"maximum": 1000`, `"maximum": 500`, "schemas/inventory.reserve.json /lines[]/quantity: maximum was 1000 and is 500"},
		"bound widened":        {common, `"maxItems": 50`, `"maxItems": 51`, "schemas/shipping.arrange.json /lines: maxItems was 50 and is 51"},
		"bound added":          {common, `"format": "date-time",`, `"format": "date-time", "minLength": 20,`, "/created_at: minLength is new, 20"},
		"pattern changed":      {common, `^[A-Z]{2}$`, `^[A-Za-z]{2}$`, "schemas/order.created.json /shipping_address/country: pattern was"},
		"format removed":       {common, `"format": "date-time",`, ``, "/created_at: format was date-time and is gone"},
		"closed":               {created, `"type": "object",`, `"type": "object", "additionalProperties": false,`, "schemas/order.created.json /: additionalProperties is new, false"},
		"path removed":         {order, "/v1/products:", "/v1/goods:", "openapi/order.yaml GET /v1/products: "},
		"request field needed": {order, "shipping_address, payment_method]\n      properties:", "shipping_address, payment_method, note]\n      properties:\n        note: {type: string, maxLength: 10}", "openapi/order.yaml POST /v1/orders: "},
		"request bound narrowed": {order, "minItems: 1\n          maxItems: 50", "minItems: 1\n          maxItems: 5",
			"openapi/order.yaml POST /v1/orders: "},
		"answer field dropped": {order, "        total: {$ref: '#/components/schemas/Money'}\n", "", "openapi/order.yaml GET /v1/orders/{order_id}: "},
		"parameter required":   {order, "IfMatch:\n      name: If-Match\n", "IfMatch:\n      name: If-Match\n      required: true\n", "openapi/order.yaml POST /v1/orders/{order_id}/cancel: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			edit(t, filepath.Join(dir, c.file), c.from, c.to)
			released, err := os.ReadFile(filepath.Join(dir, "released", c.file))
			require.NoError(t, err)
			for _, verb := range []string{"check", "release"} {
				var out bytes.Buffer
				err := run(verb, dir, &out)
				require.ErrorContains(t, err, "breaking changes", verb)
				require.Contains(t, out.String(), c.says, verb)
			}
			after, err := os.ReadFile(filepath.Join(dir, "released", c.file))
			require.NoError(t, err)
			require.Equal(t, string(released), string(after), "a break was released")
		})
	}
}

func TestRemovedFilesAreBreaks(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"schemas/order.created.json", "openapi/order.yaml"} {
		dir := scratch(t)
		require.NoError(t, os.Remove(filepath.Join(dir, file)))
		var out bytes.Buffer
		require.Error(t, run("check", dir, &out))
		require.Contains(t, out.String(), file+" was released and is gone")
	}
}

func TestEnumsHoldBothWays(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ from, to, says string }{
		"narrowed": {`["a", "b"]`, `["a"]`, `enum no longer has "b"`},
		"widened":  {`["a"]`, `["a", "b"]`, `enum now has "b"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := scratch(t)
			for folder, enum := range map[string]string{"released/schemas": c.from, "schemas": c.to} {
				edit(t, filepath.Join(dir, folder, "shipping.cancel.json"), `"properties": {`, `"properties": {"kind": {"type": "string", "enum": `+enum+`},`)
			}
			var out bytes.Buffer
			require.Error(t, run("check", dir, &out))
			require.Contains(t, out.String(), "schemas/shipping.cancel.json /kind: "+c.says)
		})
	}
}

func TestGrowthIsFree(t *testing.T) {
	t.Parallel()
	dir := scratch(t)
	edit(t, filepath.Join(dir, "schemas/order.created.json"), `"properties": {`, `"properties": {"note": {"type": "string", "maxLength": 10},`)
	edit(t, filepath.Join(dir, "schemas/common.json"), `ISO 4217 code.`, `A currency.`)
	data, err := os.ReadFile(filepath.Join(dir, "schemas/order.created.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "schemas/order.created.v2.json"), data, 0o600))
	edit(t, filepath.Join(dir, "openapi/order.yaml"), "        name: {description: What people call it.", "        note: {description: More., type: string, maxLength: 10}\n        name: {description: What people call it.")
	var out bytes.Buffer
	require.NoError(t, run("check", dir, &out), &out)
	require.NoError(t, run("release", dir, &out))
	require.FileExists(t, filepath.Join(dir, "released/schemas/order.created.v2.json"))
}

func TestNothingToCompareIsAnError(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run("check", t.TempDir(), &bytes.Buffer{}), "no *.json in")
	require.ErrorContains(t, run("no-such-verb", "", &bytes.Buffer{}), "unknown verb")
}

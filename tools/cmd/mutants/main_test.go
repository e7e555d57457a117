package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/tools/overlay"
)

// TestMutantsFit: each mutant's old text stands in its file, once.
func TestMutantsFit(t *testing.T) {
	t.Parallel()
	mutants, err := listed()
	require.NoError(t, err)
	require.NotEmpty(t, mutants)
	for _, m := range mutants {
		_, err := overlay.Apply("../../..", m.Change)
		require.NoError(t, err, m.Guarantee)
	}
}

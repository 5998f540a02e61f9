package tenantdb

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Prediction is one answered (or failed) request.
type Prediction struct {
	// ID is a uuid v7: the table is ordered and divided by the time in it.
	ID               uuid.UUID
	RequestID        string
	APIKey           string
	Kind             string // chat, embedding, prediction
	Model            string
	Streamed         bool
	State            string // in_progress, succeeded, failed, cancelled, interrupted
	EndUser          string
	Input, Output    json.RawMessage // nil is null
	ErrorCode        string
	PromptTokens     int64
	CompletionTokens int64
	CreatedAt        time.Time
	SettledAt        *time.Time
}

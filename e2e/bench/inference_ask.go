package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// What a prompt of the benchmark holds: each of these must come back in the
// answer, and none reach the engine.
const (
	plantedMail  = "jane.roe@example.com"
	plantedCard  = "4111 1111 1111 1111"
	plantedPhone = "+1 415 555 2671"
)

const askedPrompt = "Please write to " + plantedMail + " or call " + plantedPhone + " today, and charge the card " +
	plantedCard + " for the two tickets. The event begins at noon in the great hall; bring the printed invitation along, " +
	"and tell the guests at the door that their seats are in the third row, near the window, as they asked for."

// askedBody is a chat request. The mock answers with the prompt's own words.
func askedBody(prompt string, stream bool) []byte {
	text, _ := json.Marshal(map[string]any{
		"model": benchModel, "stream": stream, "max_tokens": 60,
		"messages": []any{
			map[string]any{"role": "system", "content": "You answer with the words that you were given."},
			map[string]any{"role": "user", "content": prompt},
		},
	})
	return text
}

// askTime bounds a request.
const askTime = 20 * time.Second

// newCaller is a client that keeps as many connections as requests are out.
func newCaller() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: askedAtOnce}, Timeout: askTime}
}

// newAsk is a chat request.
func newAsk(ctx context.Context, url, token string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	return req, nil
}

// ask posts a chat request, reads all of the answer and returns it.
func ask(ctx context.Context, c *http.Client, url, token string, body []byte) (int, []byte, error) {
	req, err := newAsk(ctx, url, token, body)
	if err != nil {
		return 0, nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

// answered is ask for what must be answered well.
func answered(ctx context.Context, c *http.Client, url, token string, body []byte) error {
	status, text, err := ask(ctx, c, url, token, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, text)
	}
	return err
}

// complete says what of the planted data is missing in an answer.
func complete(answer []byte) error {
	for _, planted := range []string{plantedMail, plantedCard, plantedPhone} {
		if !strings.Contains(string(answer), planted) {
			return fmt.Errorf("%s isn't restored in %s", planted, answer)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

// Package publish is the step type that sends a message to Kafka or RabbitMQ and waits for its confirmation.
package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/itechsmart/operator/internal/backend"
	"github.com/itechsmart/operator/workloads/workflow/internal/engine"
	"github.com/itechsmart/operator/workloads/workflow/internal/steps/step"
)

// Spec describes the type.
func Spec() step.Spec {
	return step.Spec{
		Type: "publish", Summary: "Sends a message to a Kafka topic or a RabbitMQ exchange, and waits for the confirmation of the broker.",
		New: func(env step.Env) engine.Executor { return newExecutor(env) },
	}
}

const (
	typeKafka  = "kafka"
	typeRabbit = "rabbitmq"
	// keyHeader has the call's idempotency key, so that consumers can detect duplicates.
	keyHeader = "idempotency-key"
	maxName   = 255
)

// message is a parsed `with`.
type message struct {
	connection string
	topic      string // Kafka
	exchange   string // RabbitMQ; "" sends to the queue that key names
	key        string
	headers    map[string]string
	body       []byte
	isJSON     bool
}

// broker sends messages over one connection. Errors wrap the sentinels of package backend.
type broker interface {
	send(ctx context.Context, m message) error
	close()
}

type executor struct {
	env  step.Env
	pool *step.Pool[broker]
}

func newExecutor(env step.Env) *executor {
	return &executor{env: env, pool: step.NewPool(open, broker.close)}
}

func open(b backend.Binding) (broker, error) {
	if b.Type == typeKafka {
		return newKafka(b)
	}
	return newRabbit(b)
}

// Close ends the connections.
func (e *executor) Close() error {
	e.pool.Close()
	return nil
}

func (e *executor) Execute(ctx context.Context, call engine.Call) (engine.Result, error) {
	if err := ctx.Err(); err != nil {
		return engine.Result{}, err
	}
	m, err := read(call.Config)
	if err != nil {
		return engine.Result{}, err
	}
	b, err := e.env.Connect(m.connection, typeKafka, typeRabbit)
	if err != nil {
		return engine.Result{}, err
	}
	if err := m.check(b.Type, call.Config); err != nil {
		return engine.Result{}, err
	}
	m.headers[keyHeader] = call.Key
	client, done, err := e.pool.Get(m.connection, b)
	if err != nil {
		return engine.Result{}, step.Classify(err)
	}
	defer done()
	if err := client.send(ctx, m); err != nil {
		if ctx.Err() != nil {
			return engine.Result{}, ctx.Err()
		}
		if errors.Is(err, backend.ErrNotFound) {
			return engine.Result{}, step.Refuse("with.%s: %w", m.target(), err)
		}
		return engine.Result{}, step.Classify(err)
	}
	return engine.Result{Output: map[string]any{"bytes": int64(len(m.body)), "key": m.key}}, nil
}

func read(values map[string]any) (message, error) {
	config := step.Read(values)
	m := message{
		connection: config.Required("connection"), topic: config.Text("topic", ""), exchange: config.Text("exchange", ""),
		key: config.Text("key", ""), headers: config.Texts("headers"),
	}
	if m.headers == nil {
		m.headers = map[string]string{}
	}
	if len(m.exchange) > maxName {
		config.Problem("exchange", "has more than %d bytes", maxName)
	}
	value, ok := config.Any("message")
	if text, isText := value.(string); isText {
		m.body = []byte(text)
	} else if ok {
		var err error
		m.isJSON = true
		if m.body, err = encode(value); err != nil {
			config.Problem("message", "cannot be encoded as JSON")
		}
	} else {
		config.Problem("message", "is required")
	}
	return m, config.Err()
}

func encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(value)
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), err
}

// check returns the problems that depend on the broker.
func (m message) check(kind string, values map[string]any) error {
	config := step.Read(values)
	_, topic := values["topic"]
	_, exchange := values["exchange"]
	switch {
	case kind == typeKafka && exchange:
		config.Problem("exchange", "is only valid for RabbitMQ; the connection is to Kafka")
	case kind == typeKafka && !validTopic(m.topic):
		config.Problem("topic", "want a topic's name: letters, digits, '.', '_', '-', at most 249")
	case kind == typeRabbit && topic:
		config.Problem("topic", "is only valid for Kafka; the connection is to RabbitMQ")
	case kind == typeRabbit && m.exchange == "" && m.key == "":
		config.Problem("key", "is required without an exchange: the name of the queue")
	case kind == typeRabbit && len(m.key) > maxName:
		config.Problem("key", "has more than %d bytes", maxName)
	default:
		return nil
	}
	return config.Problems()
}

// target returns the field with the destination of the message.
func (m message) target() string {
	switch {
	case m.topic != "":
		return "topic"
	case m.exchange != "":
		return "exchange"
	}
	return "key"
}

// errUnroutable means that no queue receives the message.
var errUnroutable = errors.New("no queue is bound for this exchange and key")

"""Requests that can wait: messages over RabbitMQ or Kafka, a consumer, one job store."""

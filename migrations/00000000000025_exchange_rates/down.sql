DROP TABLE exchange_rates;
DROP TABLE rate_files;

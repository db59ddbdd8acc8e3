DROP TABLE standstills;
